// @vitest-environment happy-dom
import { createApp, createSSRApp, defineComponent, effectScope, h, nextTick, ref } from 'vue'
import { renderToString } from 'vue/server-renderer'
import { expect, test, vi } from 'vitest'
import { useLiveQuery, walcast } from '../src/vue/index.js'
import { Talk } from './support/talk.js'

const mount = (talk: Talk, setup: () => () => any): { root: HTMLElement; unmount(): void } => {
  const root = document.createElement('div')
  const app = createApp(defineComponent({ setup }))
  app.use(walcast(talk.client)).mount(root)
  return { root, unmount: () => app.unmount() }
}

test('a component shows the rows, and ends its query when it is unmounted', async () => {
  const talk = new Talk({ linger: 0 })
  const { root, unmount } = mount(talk, () => {
    const { rows, status, error } = useLiveQuery({ table: 'task' })
    return () => h('p', `${status.value} ${rows.value.map(({ title }: any) => title)} ${error.value?.code ?? ''}`)
  })
  expect(root.textContent).toBe('connecting  ')
  await talk.greet()
  const id = talk.fill([{ id: 1, title: 'a' }])
  await nextTick()
  expect(root.textContent).toBe('live a ')
  talk.tx('0/200', [{ id, op: 'insert', row: { id: 2, title: 'b' } }])
  await nextTick()
  expect(root.textContent).toBe('live a,b ')
  unmount()
  talk.platform.pass(1)
  expect(talk.sent.at(-1)).toEqual({ type: 'unsubscribe', id })
  expect(talk.reported).toEqual([])
})

test('a row renders its component only when it changed', async () => {
  const talk = new Talk()
  const rendered = vi.fn()
  const Line = defineComponent({ props: ['task'], setup: (props) => () => (rendered(props.task.id), h('li', props.task.title)) })
  mount(talk, () => {
    const { rows } = useLiveQuery({ table: 'task' })
    return () => h('ul', rows.value.map((task: any) => h(Line, { key: task.id, task })))
  })
  await talk.greet()
  const id = talk.fill([1, 2, 3].map((id) => ({ id, title: 'a' })))
  await nextTick()
  rendered.mockClear()
  talk.tx('0/200', [{ id, op: 'update', row: { id: 2, title: 'b' } }])
  await nextTick()
  expect(rendered.mock.calls).toEqual([[2]])
})

test('the query may change, and may be none yet', async () => {
  const talk = new Talk({ linger: 0 })
  const least = ref<number | null>(null)
  const { root } = mount(talk, () => {
    const { rows, live } = useLiveQuery(() => (least.value === null ? null : { table: 'task', where: 'id >= $1', params: [least.value] }))
    return () => h('p', live.value ? rows.value.map(({ id }: any) => id).join() : 'none')
  })
  expect(root.textContent).toBe('none')
  least.value = 1
  await nextTick()
  await talk.greet()
  talk.fill([{ id: 1, title: 'a' }, { id: 2, title: 'b' }])
  await nextTick()
  expect(root.textContent).toBe('1,2')
  least.value = 2
  await nextTick()
  expect(talk.sent.at(-1)).toMatchObject({ type: 'subscribe', params: [2] })
  talk.fill([{ id: 2, title: 'b' }])
  await nextTick()
  expect(root.textContent).toBe('2')
  talk.platform.pass(1)
  expect(talk.sent.at(-1)).toMatchObject({ type: 'unsubscribe' })
})

test('a server renders what it was given, and reads nothing; the page goes on from there', async () => {
  const server = new Talk()
  const task = server.client.liveQuery({ table: 'task' })
  const end = task.subscribe(() => {})
  await server.greet()
  server.fill([{ id: 1, title: 'a' }])
  const initial = JSON.parse(JSON.stringify(task.dehydrate()))
  end()
  const App = defineComponent(() => {
    const { rows } = useLiveQuery({ table: 'task' }, { initial })
    return () => h('p', rows.value.map(({ title }: any) => title).join())
  })
  const rendering = new Talk()
  const html = await renderToString(createSSRApp(App).use(walcast(rendering.client)))
  expect(html).toBe('<p>a</p>')
  expect(rendering.platform.sockets).toHaveLength(0)

  const talk = new Talk()
  const root = document.createElement('div')
  root.innerHTML = html
  const warned = vi.spyOn(console, 'warn')
  createSSRApp(App).use(walcast(talk.client)).mount(root)
  await talk.greet()
  expect(talk.sent.at(-1)).toMatchObject({ type: 'subscribe', from: '0/100' })
  talk.accept()
  talk.tx('0/110', [{ id: '1', op: 'update', row: { id: 1, title: 'A' } }], { id: '1' })
  talk.say({ type: 'live', id: '1', position: '0/110' })
  await nextTick()
  expect(root.innerHTML).toBe('<p>A</p>')
  expect(warned).not.toHaveBeenCalled()
})

test('without a client it says what to do', () => {
  const scope = effectScope()
  vi.spyOn(console, 'warn').mockImplementation(() => {})
  expect(() => scope.run(() => useLiveQuery({ table: 'task' }))).toThrow('app.use(walcast(client))')
  const talk = new Talk()
  scope.run(() => expect(useLiveQuery({ table: 'task' }, { client: talk.client }).rows.value).toEqual([]))
  scope.stop()
})

test('the example of the README', async () => {
  const { readFileSync } = await import('node:fs')
  const { compile } = await import('vue')
  const [, script, template] = /```vue\n<script setup>\n(.*?)<\/script>\n\n<template>\n(.*?)<\/template>\n```/s.exec(readFileSync('README.md', 'utf8'))!
  // As the compiler of single files does it: what the script declares is what the template sees.
  const body = script!.replace(/^import .*\n/gm, '')
  const names = [...body.matchAll(/const \{ (.*?) \}/g)].flatMap(([, list]) => list!.split(', '))
  const talk = new Talk()
  const root = document.createElement('div')
  createApp({ setup: () => new Function('useLiveQuery', `${body}\nreturn { ${names} }`)(useLiveQuery), render: compile(template!) })
    .use(walcast(talk.client))
    .mount(root)
  await talk.greet()
  expect(talk.sent.at(-1)).toMatchObject({ table: 'orders', where: "status = 'paid'" })
  talk.accept('0/100', { columns: [{ name: 'id', type: 'integer' }, { name: 'amount', type: 'numeric' }] })
  talk.say({ type: 'snapshot', id: '1', rows: [{ id: 1, amount: '120.00' }] })
  talk.say({ type: 'live', id: '1', position: '0/100' })
  await nextTick()
  expect(root.innerHTML).toBe('<ul aria-busy="false"><li>120.00</li></ul>')
})
