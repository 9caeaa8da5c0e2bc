import { useState } from 'react'
import { logIn } from './api'

export function Login() {
  const [problem, setProblem] = useState('')
  return (
    <main className="login">
      <h1>Chat</h1>
      <p>Who are you? Each tab of your browser may be somebody else.</p>
      <div>
        {['Ann', 'Bob', 'Cleo'].map((name) => (
          <button key={name} onClick={() => logIn(name).catch((error: Error) => setProblem(`You are not logged in: ${error.message}`))}>{name}</button>
        ))}
      </div>
      {problem && <p className="problem" role="alert">{problem}</p>}
    </main>
  )
}
