import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
import { type FormEvent, useState } from 'react'
import { type Block, isFinished, type Turn } from '../src/index.js'
import { gatewayKeys, useGateway, useTurn } from '../src/react/index.js'
import { headline } from './headline.js'

/** The project's newest session; a new one where there is none. */
export function Chat() {
  const { project } = useGateway()
  const queryClient = useQueryClient()
  const queryKey = [...gatewayKeys.project(project), 'sessions']
  const { data: session } = useQuery({ queryKey, queryFn: () => newestSession() })
  const begin = useMutation({
    mutationFn: () => project.createSession(),
    onSuccess: (session) => queryClient.setQueryData(queryKey, session)
  })
  return (
    <section className="chat" aria-labelledby="chat-title">
      <div className="bar">
        <h2 id="chat-title">Agent</h2>
        <button type="button" disabled={begin.isPending} onClick={() => begin.mutate()}>
          New session
        </button>
      </div>
      {session && <SessionChat key={session.id} sessionId={session.id} />}
    </section>
  )

  async function newestSession() {
    const sessions = await project.listSessions({ limit: 1 }).catch(() => null) // no project yet
    return sessions?.sessions[0] ?? null
  }
}

function SessionChat({ sessionId }: { sessionId: string }) {
  const { data: turn, isPolling, create, isCreating, cancel, error } = useTurn(sessionId)
  const [prompt, setPrompt] = useState('')
  const isRunning = turn !== undefined && !isFinished(turn.status)
  const send = async (event: FormEvent) => {
    event.preventDefault()
    setPrompt('')
    await create(prompt).catch(() => setPrompt(prompt))
  }
  return (
    <>
      {turn && <TurnView turn={turn} isPolling={isPolling} />}
      {error !== null && <p role="alert">{error.message}</p>}
      <form onSubmit={(event) => void send(event)}>
        <textarea
          value={prompt}
          onChange={(event) => setPrompt(event.target.value)}
          placeholder="What is to be done?"
          aria-label="Prompt"
          required
        />
        <button type="submit" disabled={isCreating || isRunning}>
          Send
        </button>
        {isRunning && (
          <button type="button" onClick={() => void cancel().catch(() => undefined)}>
            Cancel
          </button>
        )}
      </form>
    </>
  )
}

function TurnView({ turn, isPolling }: { turn: Turn; isPolling: boolean }) {
  return (
    <article aria-busy={isPolling} data-polling={isPolling}>
      <p className="prompt">{turn.prompt}</p>
      <div aria-live="polite">
        {turn.blocks.map((block) => (
          <BlockView key={block.id} block={block} />
        ))}
      </div>
      <output className={`turn-status ${turn.status}`}>{turn.status}</output>
      {turn.status === 'pending' && (
        <p className="hint">
          An agent answers it: <code>claude -p … | yjs-gateway turn pipe</code>
        </p>
      )}
      {turn.error !== undefined && <p role="alert">{turn.error}</p>}
    </article>
  )
}

function BlockView({ block: { type, content } }: { block: Block }) {
  const text = typeof content === 'string' ? content : JSON.stringify(content, null, 2)
  if (type === 'text' && typeof content === 'string') return <p className="block">{text}</p>
  return (
    <details className={`block ${type}`} open={type === 'error'}>
      <summary>{headline({ type, content })}</summary>
      <pre>{text}</pre>
    </details>
  )
}
