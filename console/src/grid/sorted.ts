/** Items in order. One comes or goes in O(log n) comparisons; `compare` must be 0 for the same item alone. */
export class SortedIndex<T> {
  readonly #items: T[] = []
  readonly #compare: (a: T, b: T) => number

  constructor(compare: (a: T, b: T) => number, items: readonly T[] = []) {
    this.#compare = compare
    this.#items = [...items].sort(compare)
  }

  get length(): number {
    return this.#items.length
  }

  at(index: number): T | undefined {
    return this.#items[index]
  }

  add(item: T): void {
    this.#items.splice(this.#place(item), 0, item)
  }

  /** Adds many; sorts once if they are many for what is there. */
  addAll(items: readonly T[]): void {
    if (items.length < 64 || items.length * 8 < this.length) for (const item of items) this.add(item)
    else {
      for (const item of items) this.#items.push(item)
      this.#items.sort(this.#compare)
    }
  }

  /** Removes an item, which must compare as it did when it was added. */
  remove(item: T): boolean {
    const index = this.indexOf(item)
    if (index < 0) return false
    this.#items.splice(index, 1)
    return true
  }

  /** Removes all of which that is true. */
  removeWhere(isGone: (item: T) => boolean): void {
    let to = 0
    for (const item of this.#items) if (!isGone(item)) this.#items[to++] = item
    this.#items.length = to
  }

  indexOf(item: T): number {
    const index = this.#place(item)
    return this.#items[index] === item ? index : -1
  }

  [Symbol.iterator](): IterableIterator<T> {
    return this.#items[Symbol.iterator]()
  }

  /** Where an item is, or would be. */
  #place(item: T): number {
    let low = 0
    let high = this.#items.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#compare(this.#items[middle]!, item) < 0) low = middle + 1
      else high = middle
    }
    return low
  }
}
