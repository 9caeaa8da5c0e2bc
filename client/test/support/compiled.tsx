// The configuration of the tests has the React Compiler compile this file.
import type { ReactNode } from 'react'
import { createHooks } from '../../src/react/index.js'
import type { Tables } from './talk.js'

const { useLiveQuery, useRow } = createHooks<Tables>()

export const renders: Record<string, number> = {}
const count = (name: string): void => void (renders[name] = (renders[name] ?? 0) + 1)

function Line({ id }: { id: number }): ReactNode {
  const row = useRow({ table: 'task' }, id)
  return <Shown title={row?.title ?? '?'} />
}

function Shown({ title }: { title: string }): ReactNode {
  count(`shown ${title}`)
  return <li>{title}</li>
}

export function List({ least }: { least: number }): ReactNode {
  const { rows, status } = useLiveQuery({ table: 'task', where: 'id >= $1', params: [least] })
  const ids = useLiveQuery({ table: 'task' }, { select: (state) => state.rows.map(({ id }) => id), isEqual: (a, b) => a.join() === b.join() })
  const titles = rows.map(({ title }) => title).join()
  return (
    <>
      {status} {titles} {ids.map((id) => <Line key={id} id={id} />)}
    </>
  )
}
