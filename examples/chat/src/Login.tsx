import { logIn } from './api'

export function Login() {
  return (
    <main className="login">
      <h1>Chat</h1>
      <p>Who are you? Each tab of your browser may be somebody else.</p>
      <div>
        {['Ann', 'Bob', 'Cleo'].map((name) => (
          <button key={name} onClick={() => void logIn(name)}>{name}</button>
        ))}
      </div>
    </main>
  )
}
