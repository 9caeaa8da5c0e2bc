import { type Client, clientOn } from '../../src/client.js'
import { sort } from '../../src/index.js'
import type { ClientOptions } from '../../src/options.js'
import { FakePlatform, type FakeSocket, promises } from './platform.js'

export const HELLO = { type: 'hello', protocol: 1, server: 'walcast/1', database: 'app', epoch: 'e1', position: '0/100', earliest: '0/100', features: ['reach'] }
export const COLUMNS = [
  { name: 'id', type: 'integer' },
  { name: 'title', type: 'text' },
]

export interface Task {
  id: number
  title: string | null
}
export type Tables = { task: { row: Task; key: 'id' }; pair: { row: { a: number; b: string }; key: 'a' | 'b' }; log: { row: { line: string }; key: never } }

/** A client whose server is played by the test, message by message. */
export class Talk {
  readonly platform = new FakePlatform()
  readonly client: Client<Tables>
  readonly warnings: string[] = []
  readonly reported: unknown[] = []

  constructor(options: ClientOptions<Tables> = {}, url = 'wss://example.com/') {
    globalThis.reportError = (error) => void this.reported.push(error)
    this.client = clientOn<Tables>(url, { batch: 'transaction', sort, onWarning: ({ table, text }) => this.warnings.push(table ? `${table}: ${text}` : text), ...options }, this.platform)
  }

  get socket(): FakeSocket {
    return this.platform.socket
  }

  get sent(): any[] {
    return this.socket.sent
  }

  /** Takes what the client sent since this was called last. */
  take(): any[] {
    return this.sent.splice(0)
  }

  say(frame: unknown): void {
    this.socket.say(frame)
  }

  async greet(hello: object = {}): Promise<void> {
    await promises()
    this.socket.accept()
    this.say({ ...HELLO, ...hello })
  }

  /** Accepts the last subscription, whose name it returns. */
  accept(position = '0/100', more: object = {}): string {
    const { id } = this.sent.findLast(({ type }) => type === 'subscribe')
    this.say({ type: 'subscribed', id, position, key: ['id'], columns: COLUMNS, replica_identity: 'full', warnings: [], ...more })
    return id
  }

  /** Accepts the last subscription, with these rows, until it is live. */
  fill(rows: readonly unknown[], position = '0/100', more: object = {}): string {
    const id = this.accept(position, more)
    if (rows.length > 0) this.say({ type: 'snapshot', id, rows })
    this.say({ type: 'live', id, position })
    return id
  }

  tx(position: string, changes: readonly object[], more: object = {}): void {
    this.say({ type: 'tx', position, xid: 701, ts: '2026-01-01T00:00:00.000000Z', changes: changes.map((change, seq) => ({ seq, ...change })), ...more })
  }
}

export { promises } from './platform.js'
