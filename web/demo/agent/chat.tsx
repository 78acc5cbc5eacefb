import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
import { useState } from 'react'
import { isFinished, isProblem, type Project, type Session } from '../../src/index.js'
import { gatewayKeys, useGateway, useTurn } from '../../src/react/index.js'
import { Failure } from '../shell/failure.js'
import { agoText } from '../shell/format.js'
import { How } from '../shell/how.js'
import { Icon } from '../shell/icon.js'
import { persistently } from '../shell/part.js'
import { Composer, type Worker } from './composer.js'
import { OlderTurns, Thread, TurnView } from './thread.js'

interface ChatProps {
  /** The path of the open file. */
  path: string | null
  /** The project as the sample agent uses it, with its own author. */
  agentProject: Project
}

const TITLE_LENGTH = 60

/** Conversations with agents: each session is a thread of turns. */
export function Chat(props: ChatProps) {
  const { project } = useGateway()
  const { data: sessions, refetch, error } = useSessions()
  const [chosen, choose] = useState<string | null>(null)
  const [isNew, setNew] = useState(false)
  const session = isNew ? null : (chosen ?? sessions?.[0]?.id ?? null)
  return (
    <section className="pane chat" aria-labelledby="chat-title">
      <div className="bar">
        <h2 id="chat-title">Agent</h2>
        <select
          aria-label="Session"
          value={session ?? ''}
          onFocus={() => void refetch()}
          onChange={(event) => {
            setNew(event.target.value === '')
            choose(event.target.value || null)
          }}
        >
          {(isNew || session === null) && <option value="">New session</option>}
          {sessions?.map((each) => (
            <option key={each.id} value={each.id}>
              {each.title ?? `Session of ${agoText(each.created_at)}`}
            </option>
          ))}
        </select>
        <button
          type="button"
          className="quiet"
          aria-label="New session"
          title="New session"
          onClick={() => setNew(true)}
        >
          <Icon name="plus" />
        </button>
        <How what="work as an agent" curl={CURL} ts={TS} />
      </div>
      <Failure error={error} />
      {session === null ? (
        <NewSession {...props} onBegun={begun} />
      ) : (
        <SessionChat key={session} sessionId={session} {...props} />
      )}
    </section>
  )

  async function begun(prompt: string): Promise<{ session: string; turn: string }> {
    const session = await project.createSession(prompt.slice(0, TITLE_LENGTH))
    const turn = await project.createTurn(session.id, prompt)
    await refetch()
    choose(session.id)
    setNew(false)
    return { session: session.id, turn: turn.id }
  }
}

function useSessions() {
  const { project } = useGateway()
  return useQuery<Session[]>({
    queryKey: [...gatewayKeys.project(project), 'sessions'],
    queryFn: async ({ signal }) => {
      try {
        return (await project.listSessions({ limit: 50, signal })).sessions
      } catch (error) {
        if (isProblem(error, 'project_not_found')) return [] // no project yet
        throw error
      }
    }
  })
}

interface NewSessionProps extends ChatProps {
  onBegun(prompt: string): Promise<{ session: string; turn: string }>
}

function NewSession({ path, agentProject, onBegun }: NewSessionProps) {
  const begin = useMutation({
    mutationFn: async ({ prompt, worker }: { prompt: string; worker: Worker }) => {
      const task = await onBegun(prompt)
      if (worker === 'sample') void runAgent(agentProject, { ...task, prompt, path })
    }
  })
  return (
    <>
      <div className="thread empty">
        <Icon name="spark" />
        <p>Ask an agent to work on your files. It writes while you type.</p>
      </div>
      <Failure error={begin.error} />
      <Composer isBusy={begin.isPending} onSend={(prompt, worker) => begin.mutateAsync({ prompt, worker })} />
    </>
  )
}

function SessionChat({ sessionId, path, agentProject }: ChatProps & { sessionId: string }) {
  const { project } = useGateway()
  const queryClient = useQueryClient()
  const { data: turn, isPolling, create, isCreating, cancel, error } = useTurn(sessionId)
  const isRunning = turn !== undefined && !isFinished(turn.status)
  const send = async (prompt: string, worker: Worker) => {
    const { id } = await create(prompt)
    await queryClient.invalidateQueries({ queryKey: [...gatewayKeys.project(project), 'turns', sessionId] })
    if (worker === 'sample') void runAgent(agentProject, { session: sessionId, turn: id, prompt, path })
  }
  return (
    <>
      <Thread growth={`${turn?.id} ${turn?.blocks.length} ${turn?.status}`}>
        <OlderTurns sessionId={sessionId} newest={turn?.id} />
        {turn && <TurnView turn={turn} isPolling={isPolling} />}
      </Thread>
      <Failure error={error} />
      <Composer
        isBusy={isCreating || isRunning}
        onSend={send}
        onStop={isRunning ? () => void cancel().catch(() => undefined) : undefined}
      />
    </>
  )
}

async function runAgent(
  project: Project,
  task: { session: string; turn: string; prompt: string; path: string | null }
) {
  const { runSampleAgent } = await persistently(() => import('./sample-agent.js'))
  await runSampleAgent(project, task)
}

const CURL = `curl -s --json '{"prompt": "Sort the list"}' $P/sessions/$SESSION/turns
claude -p 'Sort the list' --output-format stream-json --verbose | yjs-gateway turn pipe # blocks, as they come
curl -s --json '{"edits": [{"old": "bread", "new": "rye bread"}]}' -H 'X-Author: agent' $P/edits/list.md`
const TS = `const turn = await project.createTurn(session.id, 'Sort the list')
await project.appendBlocks(session.id, turn.id, [{ type: 'text', content: 'Sorting.' }])
await project.editText('list.md', [{ old: 'bread', new: 'rye bread' }])`
