import { describe, expect, test } from 'vitest'
import { FADE_MS, Rows } from '../src/grid/rows.js'
import { SortedIndex } from '../src/grid/sorted.js'

describe('a sorted index', () => {
  test('stays what sorting would give, whatever comes and goes', () => {
    let seed = 7
    const random = (n: number): number => (seed = (seed * 48271) % 2147483647) % n
    const compare = (a: { n: number; id: number }, b: { n: number; id: number }): number => a.n - b.n || a.id - b.id
    const index = new SortedIndex(compare)
    const all: { n: number; id: number }[] = []
    for (let id = 0; id < 2000; id++) {
      if (random(3) > 0) {
        const many = Array.from({ length: random(50) === 0 ? 100 : 1 }, (_, i) => ({ n: random(100), id: id * 1000 + i }))
        index.addAll(many)
        all.push(...many)
      } else if (all.length > 0) {
        const [gone] = all.splice(random(all.length), 1)
        expect(index.remove(gone!)).toBe(true)
        expect(index.remove(gone!)).toBe(false)
      }
    }
    index.removeWhere(({ n }) => n === 5)
    const sorted = all.filter(({ n }) => n !== 5).sort(compare)
    expect([...index]).toEqual(sorted)
    expect(index.indexOf(sorted[10]!)).toBe(10)
  })
})

const SHAPE = { key: ['id'], columns: [{ name: 'id', type: 'bigint' }, { name: 'amount', type: 'numeric(10,2)' }, { name: 'mood', type: 'mood' }] }
const row = (id: string, amount: string | null, mood = 'sad'): { key: string; row: Record<string, unknown> } => ({ key: id, row: { id, amount, mood } })

function rows(...all: { key: string; row: Record<string, unknown> }[]): Rows {
  const made = new Rows()
  made.reset(SHAPE, all)
  return made
}
const ids = (of: Rows): string => Array.from({ length: of.length }, (_, i) => of.at(i)!.id).join()

describe('the rows of a view', () => {
  test('are in the order of the key as Postgres has it, or of a column, nulls last', () => {
    const of = rows(row('10', '3.50'), row('9', '10.00', 'ok'), row('100', null, 'happy'))
    expect(ids(of)).toBe('9,10,100')
    of.sortBy({ by: { column: 'amount' }, desc: false })
    expect(ids(of)).toBe('10,9,100')
    of.sortBy({ by: { column: 'mood' }, desc: false })
    expect(ids(of)).toBe('100,9,10')
    of.sortBy({ by: 'key', desc: true })
    expect(ids(of)).toBe('100,10,9')
  })

  test('keep their place while others change, and move if what they are sorted by does', () => {
    const of = rows(row('1', '1'), row('2', '2'), row('3', '3'))
    of.apply([{ key: '2', before: row('2', '2').row, row: row('2', '9').row }], 1000)
    expect(ids(of)).toBe('1,2,3')
    expect(of.get('2')).toMatchObject({ mark: 'change', at: 1000, changed: new Set(['amount']) })
    of.sortBy({ by: { column: 'amount' }, desc: false })
    of.apply([{ key: '1', before: row('1', '1').row, row: row('1', '99').row }], 1000)
    expect(ids(of)).toBe('3,2,1')
    of.sortBy({ by: 'newest', desc: false })
    of.apply([{ key: '3', before: row('3', '3').row, row: row('3', '4').row }], 1000)
    expect(ids(of)).toBe('3,1,2')
  })

  test('that left show for a moment, and come back as others', () => {
    const of = rows(row('1', '1'), row('2', '2'))
    of.apply([{ key: '1', before: row('1', '1').row, row: undefined }], 1000)
    expect([of.count, of.length, of.at(0)?.mark]).toEqual([1, 2, 'out'])
    expect(of.sweep(1000 + FADE_MS - 1)).toBe(false)
    of.apply([{ key: '1', before: undefined, row: row('1', '7').row }], 1500)
    expect([of.count, of.at(0)?.mark]).toEqual([2, 'in'])
    expect(of.sweep(9000)).toBe(false)
    of.apply([{ key: '1', before: row('1', '7').row, row: undefined }], 9000)
    expect(of.sweep(9000 + FADE_MS)).toBe(true)
    expect(ids(of)).toBe('2')
  })

  test('stand still while paused, and then show the latest of each row', () => {
    const of = rows(row('1', '1'))
    of.pause()
    of.apply([{ key: '1', before: row('1', '1').row, row: row('1', '2').row }, { key: '2', before: undefined, row: row('2', '5').row }], 1000)
    of.apply([{ key: '1', before: row('1', '2').row, row: row('1', '3').row }, { key: '2', before: row('2', '5').row, row: undefined }], 1000)
    expect([of.length, of.at(0)?.row.amount, of.missed]).toEqual([1, '1', 4])
    of.resume(2000)
    expect([of.length, of.at(0)?.row.amount, of.missed]).toEqual([1, '3', 0])
    // A row that left and came meanwhile is as it is now, and one that left for good leaves.
    of.pause()
    of.apply([{ key: '1', before: row('1', '3').row, row: undefined }], 3000)
    of.apply([{ key: '1', before: undefined, row: row('1', '4').row }, { key: '3', before: undefined, row: row('3', '1').row }], 3000)
    of.apply([{ key: '3', before: row('3', '1').row, row: undefined }], 3000)
    of.resume(4000)
    expect([ids(of), of.at(0)?.row.amount]).toEqual(['1', '4'])
  })
})
