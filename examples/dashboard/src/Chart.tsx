import { type Bar, STATUSES, worth } from './bars'
import { money, time } from './format'
import type { Ghost } from './ghost'

interface Props {
  bars: readonly Bar[]
  ghost: Ghost
  ago: number
  chosen: number | undefined
  choose: (start: number | undefined) => void
}

export function Chart({ bars, ghost, ago, chosen, choose }: Props) {
  const before = bars.map(({ start }) => ghost.get(start - ago))
  const top = Math.max(1, ...bars.map(worth), ...before.map((cents) => cents ?? 0))
  const height = (cents: number) => ({ height: `${(100 * cents) / top}%` })
  return (
    <figure>
      <ol className="bars">
        {bars.map((bar, i) => {
          const then = before[i]
          return (
            <li key={bar.start}>
              <button
                aria-pressed={bar.start === chosen}
                aria-label={`${time(bar.start)}: ${bar.orders} orders, ${money(worth(bar))}${then === undefined ? '' : `, before ${money(then)}`}`}
                onClick={() => choose(bar.start === chosen ? undefined : bar.start)}
              >
                {STATUSES.map((status) => <span key={status} className={status} style={height(bar.cents[status])} />)}
                {then !== undefined && <i style={height(then)} />}
              </button>
              <time>{time(bar.start)}</time>
            </li>
          )
        })}
      </ol>
      <figcaption>
        {STATUSES.map((status) => <span key={status} className={status}>{status}</span>)}
        <span className="before">before</span>
      </figcaption>
    </figure>
  )
}
