/** Draws lines over time on a canvas. A chart library would be a third of all that the console may weigh. */
import { clock } from '../text/format.js'
import type { Values } from './series.js'

export interface Drawn {
  readonly values: Values
  readonly colour: string
  readonly dash: readonly number[]
}

export interface Picture {
  readonly times: readonly number[]
  /** Where they begin to be shown, as an index. */
  readonly from: number
  readonly lines: readonly Drawn[]
  /** Unix seconds of what happened. */
  readonly marks: readonly number[]
  /** The time that the pointer is at. */
  readonly hovered: number | undefined
  readonly print: (value: number) => string
  /** Units of the values: 1,024 for bytes, else 1,000. */
  readonly base: number
  readonly colours: { readonly text: string; readonly grid: string; readonly mark: string; readonly cursor: string }
}

/** Pixels beside the lines: for the values on the left, and the times below. */
const [LEFT, BELOW, ABOVE, RIGHT] = [64, 20, 6, 4]
const TIME_STEPS = [10, 30, 60, 120, 300, 600, 900, 1800]

/** Values for about `count` lines of a grid, from 0 to beyond `most`: 1, 2 or 5 of a unit, so that they read well. */
export function ticks(most: number, count: number, base = 1000): number[] {
  if (!(most > 0)) return [0, 1]
  const rough = most / count
  const unit = base === 1024 ? 1024 ** Math.max(0, Math.floor(Math.log(most) / Math.log(1024))) : 1
  const power = 10 ** Math.floor(Math.log10(rough / unit))
  const step = unit * power * ([1, 2, 5, 10].find((factor) => rough <= unit * power * factor * 1.0001) ?? 10)
  return Array.from({ length: Math.ceil(most / step - 1e-9) + 1 }, (_, i) => i * step)
}

/**
 * The points of a line: the highest value of each pixel, so that no peak is lost. A gap is where a second has no value and
 * more than `gap` seconds follow without one.
 */
export function points(times: readonly number[], values: Values, from: number, xOf: (time: number) => number, gap: number): ({ x: number; value: number } | undefined)[] {
  const found: ({ x: number; value: number } | undefined)[] = []
  let last: { x: number; value: number } | undefined
  let lastTime = 0
  for (let i = from; i < times.length; i++) {
    const value = values[i]
    if (value === null || value === undefined) continue
    const time = times[i]!
    const x = Math.round(xOf(time))
    if (last?.x === x) last.value = Math.max(last.value, value)
    else {
      if (last && time - lastTime > gap) found.push(undefined)
      last = { x, value }
      found.push(last)
    }
    lastTime = time
  }
  return found
}

export class Plot {
  readonly #canvas: HTMLCanvasElement
  #span: readonly [number, number] = [0, 1]

  constructor(canvas: HTMLCanvasElement) {
    this.#canvas = canvas
  }

  /** The time at a distance from the left edge. */
  timeAt(x: number): number {
    const [start, end] = this.#span
    const width = this.#canvas.clientWidth - LEFT - RIGHT
    return Math.round(start + (Math.max(0, Math.min(width, x - LEFT)) / width) * (end - start))
  }

  draw({ times, from, lines, marks, hovered, print, base, colours }: Picture): void {
    const canvas = this.#canvas
    const scale = devicePixelRatio || 1
    const [width, height] = [canvas.clientWidth, canvas.clientHeight]
    const context = canvas.getContext('2d')
    if (!context || width === 0) return
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale)
      canvas.height = Math.round(height * scale)
    }
    context.setTransform(scale, 0, 0, scale, 0, 0)
    context.clearRect(0, 0, width, height)
    context.font = '11px system-ui, sans-serif'
    const [start, end] = (this.#span = [times[from] ?? 0, times.at(-1) ?? 1])
    const [right, bottom] = [width - RIGHT, height - BELOW]
    const xOf = (time: number): number => LEFT + ((time - start) / Math.max(1, end - start)) * (right - LEFT)
    const shapes = lines.map(({ values }) => points(times, values, from, xOf, 5))
    const highest = Math.max(0, ...shapes.flat().map((point) => point?.value ?? 0))
    const grid = ticks(highest, 3, base)
    const most = grid.at(-1)!
    const yOf = (value: number): number => bottom - (value / most) * (bottom - ABOVE)
    const line = (x: number, y: number, toX: number, toY: number): void => {
      context.beginPath()
      context.moveTo(x, y)
      context.lineTo(toX, toY)
      context.stroke()
    }
    context.lineWidth = 1
    context.textBaseline = 'middle'
    context.textAlign = 'right'
    for (const value of grid) {
      const y = Math.round(yOf(value)) + 0.5
      context.strokeStyle = colours.grid
      line(LEFT, y, right, y)
      context.fillStyle = colours.text
      // Without any value there is no scale, and the floor alone is said.
      if (value === 0 || highest > 0) context.fillText(print(value), LEFT - 8, y)
    }
    const step = TIME_STEPS.find((seconds) => xOf(start + seconds) - LEFT >= 74) ?? 3600
    context.textAlign = 'center'
    context.textBaseline = 'top'
    for (let time = Math.ceil(start / step) * step; time <= end; time += step) {
      const x = xOf(time)
      if (x > LEFT + 20 && x < right - 20) context.fillText(clock(time * 1000).slice(0, step < 60 ? 8 : 5), x, bottom + 6)
    }
    context.strokeStyle = colours.mark
    context.setLineDash([3, 3])
    for (const at of marks) if (at >= start && at <= end) line(xOf(at), ABOVE, xOf(at), bottom)
    context.lineWidth = 1.5
    context.lineJoin = 'round'
    shapes.forEach((shape, i) => {
      context.strokeStyle = lines[i]!.colour
      context.setLineDash([...lines[i]!.dash])
      context.beginPath()
      let isOn = false
      for (const point of shape) {
        if (!point) isOn = false
        else if (isOn) context.lineTo(point.x, yOf(point.value))
        else context.moveTo(point.x, yOf(point.value))
        isOn = point !== undefined
      }
      context.stroke()
    })
    context.setLineDash([])
    if (hovered !== undefined && hovered >= start && hovered <= end) {
      context.lineWidth = 1
      context.strokeStyle = colours.cursor
      line(xOf(hovered), ABOVE, xOf(hovered), bottom)
    }
  }
}
