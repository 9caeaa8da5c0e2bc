import { WalcastError } from './error.js'
import type { Hello } from './protocol.js'

/** The optional part of the protocol that a server does not know, of those that are needed; undefined if it knows all. */
export function lacking(needs: readonly string[], { features = [], server }: Hello): WalcastError | undefined {
  const missing = needs.find((word) => !features.includes(word))
  return missing === undefined ? undefined : new WalcastError('unsupported', `this server (${server}) does not know "${missing}" yet: update it`)
}
