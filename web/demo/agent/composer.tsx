import { type FormEvent, type KeyboardEvent, useState } from 'react'
import { Icon } from '../shell/icon.js'
import { SUGGESTIONS } from './script.js'

/** The agent that runs the turn: the sample agent of this page, or an agent that the visitor runs. */
export type Worker = 'sample' | 'own'

interface ComposerProps {
  isBusy: boolean
  /** If the promise rejects, the prompt is put back into the input. */
  onSend(prompt: string, worker: Worker): Promise<unknown>
  onStop?: (() => void) | undefined
}

/** The input for prompts. Enter sends the prompt, Shift+Enter starts a new line. */
export function Composer({ isBusy, onSend, onStop }: ComposerProps) {
  const [prompt, setPrompt] = useState('')
  const [worker, setWorker] = useState<Worker>('sample')
  const send = (text: string) => {
    if (isBusy || text.trim() === '') return
    setPrompt('')
    onSend(text.trim(), worker).catch(() => setPrompt(text))
  }
  const submit = (event: FormEvent) => {
    event.preventDefault()
    send(prompt)
  }
  const pressed = (event: KeyboardEvent) => {
    if (event.key !== 'Enter' || event.shiftKey || event.nativeEvent.isComposing) return
    event.preventDefault()
    send(prompt)
  }
  return (
    <form className="composer" onSubmit={submit}>
      {worker === 'sample' && (
        <div className="suggestions">
          {SUGGESTIONS.map((suggestion) => (
            <button key={suggestion} type="button" disabled={isBusy} onClick={() => send(suggestion)}>
              {suggestion}
            </button>
          ))}
        </div>
      )}
      <div className="box">
        <textarea
          rows={2}
          value={prompt}
          onChange={(event) => setPrompt(event.target.value)}
          onKeyDown={pressed}
          placeholder="Ask the agent to …"
          aria-label="Prompt"
        />
        <div className="bar">
          <select
            className="worker"
            aria-label="Agent"
            value={worker}
            onChange={(event) => setWorker(event.target.value as Worker)}
          >
            <option value="sample">Sample agent</option>
            <option value="own">Your own agent</option>
          </select>
          <span className="space" />
          {onStop !== undefined && (
            <button type="button" onClick={onStop}>
              <Icon name="stop" />
              Stop
            </button>
          )}
          <button
            type="submit"
            className="main"
            aria-label="Send"
            title="Send (Enter)"
            disabled={isBusy || prompt.trim() === ''}
          >
            <Icon name="send" />
          </button>
        </div>
      </div>
    </form>
  )
}
