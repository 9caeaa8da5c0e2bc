import type { Signal } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import { access } from '../server.js'
import { clock } from '../text/format.js'
import { colours } from '../ui/theme.js'
import { Plot } from './plot.js'
import type { Series } from './series.js'

export interface Line {
  readonly name: string
  readonly label: string
  /** A variable of the style sheet. */
  readonly colour: string
  /** Not drawn: its value stands beside the others alone. */
  readonly isText?: boolean
  readonly print?: (value: number) => string
}

export interface ChartProps {
  readonly title: string
  readonly about: string
  readonly lines: readonly Line[]
  readonly print: (value: number) => string
  readonly base?: number
  readonly series: Series
  /** Grows with each sample. */
  readonly turn: Signal<number>
  /** The seconds that are shown. */
  readonly span: Signal<number>
  /** The time that all charts show values of; undefined: the newest. */
  readonly hovered: Signal<number | undefined>
}

/** Lines differ by more than their colour. */
const DASHES: readonly (readonly number[])[] = [[], [5, 3], [2, 3], [8, 3, 2, 3]]

/** The colour of a variable of the style sheet: a canvas knows no variables. */
function resolved(host: HTMLElement, name: string): string {
  host.style.color = `var(${name})`
  const { color } = getComputedStyle(host)
  host.style.color = ''
  return color
}

export function Chart({ title, about, lines, print, base = 1000, series, turn, span, hovered }: ChartProps) {
  const canvas = useRef<HTMLCanvasElement>(null)
  const plot = useRef<Plot | undefined>(undefined)
  const drawn = lines.filter(({ isText }) => !isText)
  const from = Math.max(0, series.times.length - span.value)
  const draw = (): void => {
    const host = canvas.current
    // A picture that was asked for before the place was left.
    if (!host) return
    plot.current ??= new Plot(host)
    plot.current.draw({
      times: series.times,
      from: Math.max(0, series.times.length - span.peek()),
      lines: drawn.map(({ name, colour }, i) => ({ values: series.values[name] ?? [], colour: resolved(host, colour), dash: DASHES[i % 4]! })),
      marks: series.events.map(({ at }) => at),
      hovered: hovered.peek(),
      print,
      base,
      colours: { text: resolved(host, '--soft'), grid: resolved(host, '--line'), mark: resolved(host, '--change'), cursor: resolved(host, '--soft') },
    })
  }
  useEffect(() => {
    let frame = 0
    const later = (): void => {
      frame ||= requestAnimationFrame(() => {
        frame = 0
        draw()
      })
    }
    const resize = new ResizeObserver(later)
    const ends = [colours.subscribe(later), turn.subscribe(later), span.subscribe(later), hovered.subscribe(later)]
    resize.observe(canvas.current!)
    return () => {
      for (const end of ends) end()
      resize.disconnect()
      cancelAnimationFrame(frame)
    }
  }, [])
  void turn.value
  const at = hovered.value
  const valueOf = (name: string): number | null => {
    if (at === undefined) return series.latest(name)
    const i = at - (series.times[0] ?? 0)
    return series.values[name]?.[i] ?? null
  }
  const key = (event: KeyboardEvent): void => {
    const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -30, PageDown: 30 }[event.key]
    if (event.key === 'Escape') hovered.value = undefined
    else if (by === undefined) return
    else hovered.value = Math.max(series.times[from] ?? 0, Math.min(series.since, (at ?? series.since) + by))
    event.preventDefault()
  }
  const told = lines.map(({ name, label, print: own = print }) => `${label} ${valueOf(name) === null ? 'unknown' : own(valueOf(name)!)}`).join(', ')
  return (
    <figure class="chart card">
      <figcaption>
        <h2 title={about}>{title}</h2>
        {at !== undefined && <span class="soft">{clock(at * 1000)}</span>}
        <ul>
          {lines.map(({ name, label, colour: variable, isText, print: own = print }) => {
            const value = valueOf(name)
            const i = drawn.findIndex((one) => one.name === name)
            return (
              <li key={name}>
                {!isText && (
                  <svg width="14" height="6" aria-hidden="true">
                    <line x1="0" y1="3" x2="14" y2="3" stroke={`var(${variable})`} stroke-width="2" stroke-dasharray={DASHES[i % 4]!.join(' ')} />
                  </svg>
                )}
                {label}{' '}
                {access.value?.token === 'none' ? (
                  <a href={access.value.metrics} target="_blank" rel="noreferrer" title={series.metric[name] ?? ''}>
                    {value === null ? '–' : own(value)}
                  </a>
                ) : (
                  // A link would lead to a refusal: a browser sends the token of this page with no link.
                  <b title={series.metric[name] ?? ''}>{value === null ? '–' : own(value)}</b>
                )}
              </li>
            )
          })}
        </ul>
      </figcaption>
      <canvas
        ref={canvas}
        tabIndex={0}
        role="img"
        aria-label={`${title}: ${told}`}
        onKeyDown={key}
        onPointerMove={(event) => (hovered.value = plot.current?.timeAt(event.offsetX))}
        onPointerLeave={() => (hovered.value = undefined)}
        onBlur={() => (hovered.value = undefined)}
      />
    </figure>
  )
}
