/** A table of 10,000 rows of which those on the screen are drawn, each line by itself. */
import { memo, useState } from 'react'
import { createRoot } from 'react-dom/client'
import { createClient } from '../src/index.js'
import { WalcastProvider, useConnection, useLiveQuery, useRow } from '../src/react/index.js'

const client = createClient(new URLSearchParams(location.search).get('url')!)
const query = { table: 'item' }
const HEIGHT = 24

const Line = memo(function Line({ id, at }: { id: number; at: number }) {
  const row = useRow(query, id)
  return (
    <tr style={{ position: 'absolute', top: at * HEIGHT, height: HEIGHT }}>
      <td>{row?.id}</td>
      <td>{row?.name}</td>
      <td>{row?.n}</td>
    </tr>
  )
})

function Table() {
  const ids = useLiveQuery(query, { select: ({ rows }) => rows.map(({ id }) => id as number), isEqual: (a, b) => a.length === b.length && a.every((id, i) => id === b[i]) })
  const [top, setTop] = useState(0)
  const first = Math.floor(top / HEIGHT)
  return (
    <div style={{ height: 700, overflow: 'auto' }} onScroll={(event) => setTop(event.currentTarget.scrollTop)}>
      <table style={{ display: 'block', position: 'relative', height: ids.length * HEIGHT }}>
        <tbody>{ids.slice(first, first + 32).map((id, i) => <Line key={id} id={id} at={first + i} />)}</tbody>
      </table>
    </div>
  )
}

function App() {
  const { name } = useConnection()
  const changes = useLiveQuery(query, { select: ({ rows }) => rows.reduce((sum, { n }) => sum + n, 0) })
  return (
    <>
      <p id="state">{name}</p>
      <p id="sum">{changes}</p>
      <Table />
    </>
  )
}

createRoot(document.getElementById('root')!).render(<WalcastProvider client={client}><App /></WalcastProvider>)
