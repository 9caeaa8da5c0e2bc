import { type Client, createClient } from '../../src/index.js'

/** The client of an example that imports it from a module of the application. */
export const client: Client = createClient('ws://127.0.0.1')
