/** One hour of figures, a sample a second, as the server has it. */

export type Values = (number | null)[]

export interface Told {
  readonly start: number
  readonly end: number
  readonly series: Readonly<Record<string, readonly (number | null)[]>>
  readonly metric: Readonly<Record<string, string | null>>
  readonly events: readonly Event[]
}

export interface Event {
  /** Unix seconds. */
  readonly at: number
  readonly kind: string
  readonly text: string
}

const HOUR = 3600

/** The samples so far, the oldest first. */
export class Series {
  readonly times: number[] = []
  readonly values: Record<string, Values> = {}
  metric: Readonly<Record<string, string | null>> = {}
  events: readonly Event[] = []

  /** The newest sample: the next request is for those after it. */
  get since(): number {
    return this.times.at(-1) ?? 0
  }

  /** Takes what the server told; samples that are known already are left out. Returns whether anything is new. */
  take({ start, series, metric, events }: Told): boolean {
    this.metric = metric
    const length = Math.max(0, ...Object.values(series).map((values) => values.length))
    const skip = this.times.length === 0 ? 0 : Math.max(0, this.since + 1 - start)
    for (let i = skip; i < length; i++) this.times.push(start + i)
    for (const [name, values] of Object.entries(series)) {
      const own = (this.values[name] ??= [])
      // A name that was not told before has no values until now.
      while (own.length < this.times.length - Math.max(0, length - skip)) own.push(null)
      for (let i = skip; i < length; i++) own.push(values[i] ?? null)
    }
    const gone = this.times.length - HOUR
    if (gone > 0) {
      this.times.splice(0, gone)
      for (const values of Object.values(this.values)) values.splice(0, gone)
    }
    const known = new Set(this.events.map(({ at, text }) => `${at} ${text}`))
    const fresh = events.filter(({ at, text }) => !known.has(`${at} ${text}`))
    if (fresh.length > 0) this.events = [...this.events, ...fresh].filter(({ at }) => at >= (this.times[0] ?? 0)).slice(-200)
    return length > skip || fresh.length > 0
  }

  /** Begins anew: the server has another history. */
  clear(): void {
    this.times.length = 0
    for (const name of Object.keys(this.values)) delete this.values[name]
    this.events = []
  }

  /** The newest value there is, of the last `seconds`. */
  latest(name: string, seconds = 10): number | null {
    const values = this.values[name] ?? []
    for (let i = values.length - 1; i >= Math.max(0, values.length - seconds); i--) if (values[i] !== null) return values[i]!
    return null
  }

  /** By how much it grows in a second, over the last `seconds`. Null where it is not known. */
  growth(name: string, seconds = 300): number | null {
    const values = this.values[name] ?? []
    const from = Math.max(0, values.length - seconds)
    const first = values.findIndex((value, i) => i >= from && value !== null)
    const last = values.findLastIndex((value) => value !== null)
    return first < 0 || last - first < 30 ? null : (values[last]! - values[first]!) / (last - first)
  }
}
