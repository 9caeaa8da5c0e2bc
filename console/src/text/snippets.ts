/** A query as the code and the command that ask for it. */

export interface Asked {
  readonly table: string
  readonly where: string
  /** The log may not tell whether a row left the result: it has to be asked for as the console does, or is refused. */
  readonly isUndecided?: boolean
}

const literal = (text: string): string => (/['\n\\]/.test(text) ? `\`${text.replace(/[`\\]|\$\{/g, '\\$&')}\`` : `'${text}'`)

const query = ({ table, where, isUndecided }: Asked): string => `{ table: ${literal(table)}${where ? `, where: ${literal(where)}` : ''}${isUndecided ? `, undecided: 'send'` : ''} }`

export const asHook = (asked: Asked): string =>
  `import { useLiveQuery } from '@walcast/client/react'\n\nconst { rows, status } = useLiveQuery(${query(asked)})\n`

export const asClient = (asked: Asked, url: string): string =>
  `import { createClient } from '@walcast/client'\n\nconst client = createClient(${literal(url)})\nconst query = client.liveQuery(${query(asked)})\nquery.subscribe(({ rows, status }) => console.log(status, rows))\n`

/** An argument as a POSIX shell has it. */
export const shell = (text: string): string => (/^[\w./:@%+=-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`)

export const asTail = ({ table, where, isUndecided }: Asked, url: string): string =>
  `walcast tail ${shell(table)} --url ${shell(url)}${where ? ` --where ${shell(where)}` : ''}${isUndecided ? ' --undecided send' : ''}`
