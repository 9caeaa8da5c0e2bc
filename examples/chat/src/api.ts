/** The server's answer. A session that it does not know (any more) ends with the page that had it. */
export async function call<Answer>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<Answer> {
  const response = await fetch(`/api${path}`, {
    method,
    headers: { 'content-type': 'application/json', authorization: `Bearer ${sessionStorage.getItem('session')}` },
    ...(body !== undefined && { body: JSON.stringify(body) }),
    ...(signal && { signal }),
  })
  const answer = await response.json()
  if (response.status === 401) forget()
  if (!response.ok) throw new Error(answer.error)
  return answer
}

/** The user of this tab: each tab may have another one. */
export const loggedIn = (): string | null => sessionStorage.getItem('name')

export async function logIn(name: string): Promise<void> {
  const { session } = await call<{ session: string }>('POST', '/login', { name })
  sessionStorage.setItem('session', session)
  sessionStorage.setItem('name', name)
  location.reload()
}

/** Ends the session on the server, too. If the server does not answer, the page forgets it all the same. */
export function logOut(): void {
  call('POST', '/logout').catch(console.error).finally(forget)
}

function forget(): void {
  sessionStorage.clear()
  location.reload()
}

/** A token for walcast, which asks whenever it needs one. */
export const token = async ({ signal }: { signal: AbortSignal }): Promise<string> => (await call<{ token: string }>('GET', '/token', undefined, signal)).token
