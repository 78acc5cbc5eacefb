import { useQuery } from '@tanstack/react-query'
import { useEffect, useState } from 'react'
import type { FeedEntry, FileFeedEntry, Project, TurnFeedEntry } from '../../src/index.js'
import { gatewayKeys, useGateway } from '../../src/react/index.js'
import { Diff, sizeOfDiff } from '../history/diff.js'
import { Avatar } from '../people/avatars.js'
import { currentPerson } from '../people/identity.js'
import { colorOf } from '../people/person.js'
import { agoText, plural } from '../shell/format.js'
import { How } from '../shell/how.js'
import { Icon } from '../shell/icon.js'
import { type LastSeen, readLastSeen } from './last-seen.js'

/** A shorter absence does not count. */
const AWAY_MS = 60_000
const MAX_SHOWN = 50

/**
 * Shows what others changed since this browser last saw the project: after loading, and after some time in the
 * background.
 */
export function AwayCard({ onOpen }: { onOpen(path: string): void }) {
  const { project } = useGateway()
  const [since, setSince] = useAbsence(project)
  const { data: changes } = useQuery({
    queryKey: [...gatewayKeys.project(project), 'away', since?.cursor],
    queryFn: ({ signal }) => missed(project, since, signal),
    enabled: since !== null,
    retry: false,
    staleTime: Number.POSITIVE_INFINITY
  })
  if (since === null || changes === undefined || changes.length === 0) return null
  return (
    <aside className="away" aria-labelledby="away-title">
      <div className="bar">
        <h2 id="away-title">While you were away</h2>
        <span className="soft">since {agoText(since.at).replace('just now', 'a moment ago')}</span>
        <span className="space" />
        <How what="ask what was missed" curl={CURL} ts={TS} />
        <button type="button" className="quiet" aria-label="Dismiss" onClick={() => setSince(null)}>
          <Icon name="close" />
        </button>
      </div>
      <ul>
        {changes.map((change) =>
          change.kind === 'file' ? (
            <MissedFile key={change.path} change={change} onOpen={onOpen} />
          ) : (
            <MissedTurn key={change.turn_id} change={change} />
          )
        )}
      </ul>
    </aside>
  )
}

/** What the visitor had last seen before an absence; null if there was none. */
function useAbsence(project: Project): [LastSeen | null, (since: LastSeen | null) => void] {
  const [since, setSince] = useState(() => readLastSeen(project.name))
  useEffect(() => {
    let hidden: number | null = null
    const changed = () => {
      if (document.hidden) hidden = Date.now()
      else if (hidden !== null && Date.now() - hidden > AWAY_MS) setSince(readLastSeen(project.name))
    }
    document.addEventListener('visibilitychange', changed)
    return () => document.removeEventListener('visibilitychange', changed)
  }, [project])
  return [since, setSince]
}

/** Leaves out the visitor's own changes. */
async function missed(project: Project, since: LastSeen | null, signal: AbortSignal): Promise<FeedEntry[]> {
  const me = currentPerson().name
  const answer = await project.changesAsText({ since: since?.cursor ?? null, limit: MAX_SHOWN, signal })
  if (answer.reset) return []
  return answer.changes.filter((change) => {
    if (change.kind === 'turn') return Date.parse(change.last_updated) > (since?.at ?? 0)
    const { authors = [] } = change
    return authors.length !== 1 || authors[0] !== me
  })
}

function MissedFile({ change, onOpen }: { change: FileFeedEntry; onOpen(path: string): void }) {
  const { path, change_type: type, authors = [], diff } = change
  const size = diff == null ? null : sizeOfDiff(diff)
  return (
    <li>
      <details>
        <summary>
          {authors.map((name) => (
            <Avatar key={name} person={{ name, color: colorOf(name) }} />
          ))}
          <span className="name">{path}</span>
          {type === 'modified' && size !== null ? (
            <span className="size">
              <ins>+{size.added}</ins> <del>−{size.removed}</del>
              <span className="hidden"> lines</span>
            </span>
          ) : (
            <span className="soft">{type}</span>
          )}
        </summary>
        {diff == null ? <p className="soft">The change cannot be shown as text.</p> : <Diff text={diff} />}
        {type !== 'deleted' && (
          <button type="button" onClick={() => onOpen(path)}>
            Open
          </button>
        )}
      </details>
    </li>
  )
}

function MissedTurn({ change: { prompt, status, block_count } }: { change: TurnFeedEntry }) {
  return (
    <li className="turn">
      <Icon name="spark" />
      <span className="name">{prompt ?? 'A turn'}</span>
      <span className="soft">
        {status}, {plural(block_count, 'block')}
      </span>
    </li>
  )
}

const CURL = `curl -s "$P/changes?since=$CURSOR&diff=text"
yjs-gateway log --since $CURSOR # the same, to read`
const TS = `const { changes, cursor } = await project.changesAsText({ since: lastCursor })
for (const change of changes) if (change.kind === 'file') console.log(change.authors, change.diff)
localStorage.setItem('seen', cursor)`
