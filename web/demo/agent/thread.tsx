import { useQuery } from '@tanstack/react-query'
import { type ReactNode, Suspense, useEffect, useRef } from 'react'
import { type Block, isFinished, type Turn } from '../../src/index.js'
import { gatewayKeys, useGateway } from '../../src/react/index.js'
import { PROJECT_NAME } from '../shell/address.js'
import { Icon } from '../shell/icon.js'
import { part } from '../shell/part.js'
import { headline } from './headline.js'

const Markdown = part(() => import('../document/markdown.js'))

const OLDER = 20
/** The thread scrolls with new content while the reader is within this distance of its end. */
const NEAR_END_PX = 120

/** A list of turns. While the reader is at the end, the thread scrolls with new content. */
export function Thread({ growth, children }: { growth: string; children: ReactNode }) {
  const place = useRef<HTMLElement>(null)
  const isAtEnd = useRef(true)
  // biome-ignore lint/correctness/useExhaustiveDependencies: whenever the thread has grown
  useEffect(() => {
    const element = place.current
    if (element !== null && isAtEnd.current) element.scrollTop = element.scrollHeight
  }, [growth])
  useEffect(() => {
    const element = place.current
    if (element === null) return
    const observer = new ResizeObserver(() => {
      if (isAtEnd.current) element.scrollTop = element.scrollHeight
    })
    observer.observe(element)
    return () => observer.disconnect()
  }, [])
  return (
    <section
      ref={place}
      className="thread"
      aria-label="Conversation"
      // biome-ignore lint/a11y/noNoninteractiveTabindex: so that the keyboard can scroll it
      tabIndex={0}
      onScroll={({ currentTarget: { scrollHeight, scrollTop, clientHeight } }) => {
        isAtEnd.current = scrollHeight - scrollTop - clientHeight < NEAR_END_PX
      }}
    >
      {children}
    </section>
  )
}

/** The turns before the newest one. */
export function OlderTurns({ sessionId, newest }: { sessionId: string; newest: string | undefined }) {
  const { project } = useGateway()
  const { data: turns } = useQuery({
    queryKey: [...gatewayKeys.project(project), 'turns', sessionId],
    queryFn: async ({ signal }) => {
      const { turns } = await project.listTurns(sessionId, { limit: OLDER + 1, signal })
      return turns.map((turn) => turn.id).reverse()
    },
    enabled: newest !== undefined
  })
  return turns?.filter((id) => id !== newest).map((id) => <OlderTurn key={id} sessionId={sessionId} turnId={id} />)
}

function OlderTurn({ sessionId, turnId }: { sessionId: string; turnId: string }) {
  const { project } = useGateway()
  const { data: turn } = useQuery({
    queryKey: [...gatewayKeys.project(project), 'older turn', sessionId, turnId],
    queryFn: async ({ signal }) => (await project.readTurn(sessionId, turnId, { signal })).value,
    staleTime: ({ state }) => (state.data && isFinished(state.data.status) ? Number.POSITIVE_INFINITY : 0)
  })
  if (!turn) return null
  return <TurnView turn={turn} isPolling={false} />
}

type Shown = Pick<Turn, 'prompt' | 'blocks' | 'status'> & { error?: string | null | undefined }

export function TurnView({ turn, isPolling }: { turn: Shown; isPolling: boolean }) {
  const results = resultsOf(turn.blocks)
  return (
    <article aria-busy={isPolling} data-polling={isPolling}>
      <p className="prompt">{turn.prompt}</p>
      <div className="blocks" aria-live="polite">
        {turn.blocks.map((block) =>
          results.has(block) ? null : <BlockView key={block.id} block={block} result={resultFor(block, results)} />
        )}
      </div>
      <p className="turn-end">
        <output className={`turn-status ${turn.status}`}>{turn.status}</output>
      </p>
      {turn.status === 'pending' && (
        <details className="hint">
          <summary>Waiting for an agent</summary>
          <p>The sample agent begins at once. To let your own agent answer, run:</p>
          <pre>{`claude -p '…' --output-format stream-json --verbose |
  yjs-gateway turn pipe --url ${location.origin} --project ${PROJECT_NAME}`}</pre>
        </details>
      )}
      {turn.error && (
        <p role="alert" className="failure">
          {turn.error}
        </p>
      )}
    </article>
  )
}

function BlockView({ block: { type, content }, result }: { block: Block; result: Block | undefined }) {
  if (type === 'text' && typeof content === 'string') {
    return (
      <div className="block text">
        <Suspense fallback={<p className="plain">{content}</p>}>
          <Markdown text={content} />
        </Suspense>
      </div>
    )
  }
  const isFailed = type === 'error' || membersOf(result?.content).is_error === true
  return (
    <details className={`block ${type}${isFailed ? ' error' : ''}`} open={type === 'error'}>
      <summary>
        {type === 'tool_use' && <Icon name="tool" />}
        {type === 'thinking' && <Icon name="spark" />}
        <span>{type === 'thinking' && typeof content === 'string' ? content : headline({ type, content })}</span>
      </summary>
      <pre>{textOf(content)}</pre>
      {result !== undefined && <pre className="result">{textOf(membersOf(result.content).content)}</pre>}
    </details>
  )
}

/** The results that are displayed together with their tool calls. */
function resultsOf(blocks: readonly Block[]): Set<Block> {
  const uses = new Set(blocks.filter(({ type }) => type === 'tool_use').map(({ content }) => membersOf(content).id))
  const isShown = ({ type, content }: Block) => type === 'tool_result' && uses.has(membersOf(content).tool_use_id)
  return new Set(blocks.filter(isShown))
}

function resultFor({ type, content }: Block, results: Set<Block>): Block | undefined {
  if (type !== 'tool_use') return undefined
  const { id } = membersOf(content)
  return [...results].find((result) => membersOf(result.content).tool_use_id === id)
}

function membersOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
}

function textOf(content: unknown): string {
  return typeof content === 'string' ? content : (JSON.stringify(content, null, 2) ?? '')
}
