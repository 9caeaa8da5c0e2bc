import type { Client } from '@walcast/client'
import { WalcastProvider } from '@walcast/client/react'
import { useState } from 'react'
import { BARS, type Bar, STATUSES, STEP, useBars, worth } from './bars'
import { Chart } from './Chart'
import { money, time } from './format'
import { useGhost } from './ghost'
import { Rows } from './Rows'
import type { Schema } from './schema'

const AGO = { 'a minute ago': 60_000, 'ten minutes ago': 600_000, 'an hour ago': 3_600_000 }

export function Dashboard({ client }: { client: Client<Schema> }) {
  const { bars, isLive } = useBars(client)
  const [ago, setAgo] = useState(AGO['a minute ago'])
  const ghost = useGhost(client, ago)
  const [frozen, freeze] = useState<readonly Bar[]>()
  const [chosen, choose] = useState<number>()
  const shown = frozen ?? bars

  return (
    <WalcastProvider client={client}>
      <main>
        <header>
          <h1>Orders</h1>
          <p role="status">{frozen ? `as they were at ${time(frozen.at(-1)!.start + STEP)}` : isLive ? `of the last ${(BARS * STEP) / 60_000} minutes` : 'connecting'}</p>
          <label>
            Compare with{' '}
            <select value={ago} onChange={(event) => setAgo(Number(event.target.value))}>
              {Object.entries(AGO).map(([name, ms]) => <option key={ms} value={ms}>{name}</option>)}
            </select>
          </label>
          <button aria-pressed={frozen !== undefined} onClick={() => freeze(frozen ? undefined : bars)}>Freeze</button>
        </header>
        <Figures bars={shown} now={frozen && bars} />
        <Chart bars={shown} ghost={ghost} ago={ago} chosen={chosen} choose={choose} />
        {chosen === undefined ? <p className="hint">A bar opens the orders behind it.</p> : <Rows start={chosen} />}
      </main>
    </WalcastProvider>
  )
}

/** The sums of all bars; and how far those of now are from them, while the chart is frozen. */
function Figures({ bars, now }: { bars: readonly Bar[]; now?: readonly Bar[] | undefined }) {
  const orders = (bars: readonly Bar[]) => bars.reduce((sum, bar) => sum + bar.orders, 0)
  const cents = (bars: readonly Bar[], status?: (typeof STATUSES)[number]) => bars.reduce((sum, bar) => sum + (status ? bar.cents[status] : worth(bar)), 0)
  const figure = (name: string, value: (bars: readonly Bar[]) => number, print: (value: number) => string) => {
    const change = now && value(now) - value(bars)
    return (
      <div key={name} data-figure={name}>
        <dt>{name}</dt>
        <dd>{print(value(bars))}</dd>
        {change !== undefined && <dd className="change">{change < 0 ? '−' : '+'}{print(Math.abs(change))} since</dd>}
      </div>
    )
  }
  return (
    <dl data-since={bars[0]!.start}>
      {figure('orders', orders, String)}
      {figure('worth', cents, money)}
      {STATUSES.map((status) => figure(status, (bars) => cents(bars, status), money))}
    </dl>
  )
}
