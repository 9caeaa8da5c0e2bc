import { createClient, sort, waitFor } from 'http://127.0.0.1:8080/client.js'

const client = createClient('ws://127.0.0.1:8080', { sort })
const jobs = client.liveQuery({ table: 'jobs', orderBy: [{ column: 'id', desc: true }], limit: 50 })

/** The elements of the jobs that are shown, by their ids. */
let shown = new Map()

jobs.subscribe(({ rows, status }) => {
  const list = document.querySelector('#jobs')
  const before = shown
  shown = new Map(rows.map((job) => [job.id, before.get(job.id) ?? document.querySelector('#job').content.firstElementChild.cloneNode(true)]))
  for (const [id, item] of before) if (!shown.has(id)) item.remove()
  rows.forEach((job, i) => {
    const item = shown.get(job.id)
    // A row is the same object until it changes, and an element that is in its place stays there: the others are left alone.
    if (item.job !== job) fill(item, job)
    if (list.children[i] !== item) list.insertBefore(item, list.children[i] ?? null)
  })
  const count = (state) => rows.filter((job) => job.state === state).length
  document.querySelector('#status').textContent = status === 'live' ? `${count('queued')} queued, ${count('running')} running, ${count('done')} done` : status
})

function fill(item, job) {
  const { title, state, progress, worker, attempts } = (item.job = job)
  item.dataset.state = state
  item.querySelector('h2').textContent = title
  item.querySelector('.state').textContent = state === 'running' ? `${progress}%` : state
  item.querySelector('progress').value = progress
  item.querySelector('.worker').textContent = `${worker ?? 'nobody yet'}${attempts > 1 ? `, attempt ${attempts}` : ''}`
}

document.querySelector('#ask').addEventListener('submit', async (event) => {
  event.preventDefault()
  const form = event.currentTarget
  const button = form.querySelector('button')
  button.disabled = true
  try {
    const headers = { 'content-type': 'application/json' }
    const response = await fetch('/jobs', { method: 'POST', headers, body: JSON.stringify({ title: form.elements.title.value }) })
    if (!response.ok) throw new Error(response.statusText)
    const { position } = await response.json()
    // From here on the job is in the list.
    await waitFor(client, position)
  } catch (error) {
    document.querySelector('#status').textContent = `That did not work: ${error.message}`
  } finally {
    button.disabled = false
  }
})
