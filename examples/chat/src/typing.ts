import { messages } from '@walcast/client'
import { useEffect, useRef, useState } from 'react'
import { call } from './api'
import { useWalcast } from './live'

/** Somebody counts as typing for so many milliseconds, and says so again after half of them while they go on. */
const LASTS = 3000

/**
 * The others who type in a room, and a function to call when this user does. Logical messages tell it, which no table holds.
 * The author of the newest message has stopped.
 */
export function useTyping(room: number, name: string, newest?: { key: string; author: string }): { typing: readonly string[]; type: () => void } {
  const client = useWalcast()
  const [typing, setTyping] = useState<readonly string[]>([])
  const told = useRef(0)

  useEffect(() => {
    const left = new AbortController()
    const ends = new Map<string, ReturnType<typeof setTimeout>>()
    const follow = async () => {
      for await (const { content } of messages(client, 'typing', { signal: left.signal })) {
        const who = JSON.parse(content!) as { room: number; name: string }
        if (who.room !== room || who.name === name) continue
        clearTimeout(ends.get(who.name))
        ends.set(who.name, setTimeout(() => setTyping((now) => now.filter((other) => other !== who.name)), LASTS))
        setTyping((now) => (now.includes(who.name) ? now : [...now, who.name]))
      }
    }
    follow().catch(console.error)
    return () => {
      left.abort()
      for (const timer of ends.values()) clearTimeout(timer)
      setTyping([])
    }
  }, [client, room, name])

  useEffect(() => setTyping((now) => now.filter((other) => other !== newest?.author)), [newest?.key])

  const type = () => {
    if (Date.now() - told.current < LASTS / 2) return
    told.current = Date.now()
    call('POST', `/rooms/${room}/typing`).catch(console.error)
  }
  return { typing, type }
}
