import { useInfiniteQuery, useMutation, useQuery } from '@tanstack/react-query'
import { useState } from 'react'
import { isProblem, type VersionEntry } from '../../src/index.js'
import { gatewayKeys, useGateway } from '../../src/react/index.js'
import { useProjectFiles } from '../files/project-files.js'
import { Avatar } from '../people/avatars.js'
import { colorOf } from '../people/person.js'
import { Failure } from '../shell/failure.js'
import { agoText, plural, timeText } from '../shell/format.js'
import { How, literal, urlPath } from '../shell/how.js'
import { Diff, diffOfNew } from './diff.js'

/** Consecutive versions by one author within this many seconds are grouped. */
const GROUP_S = 60

/** The history of a file: authors and times, and any version to view and to restore. */
export function History({ path }: { path: string }) {
  const { files } = useProjectFiles()
  const newest = files?.find((file) => file.path === path)?.version
  const { entries, more, error } = useEntries(path, newest)
  const [chosen, choose] = useState<number | null>(null)
  const entry = entries?.find(({ version }) => version === chosen) ?? entries?.[0]
  return (
    <div className="surface history">
      <div className="entries">
        <div className="bar">
          <h3>Versions</h3>
          <How what="read the past" curl={curlLines(path)} ts={tsLines(path)} />
        </div>
        <Failure error={error} />
        <ol>
          {entries?.map((each) => (
            <li key={each.version}>
              <Entry entry={each} isChosen={each === entry} onChoose={() => choose(each.version)} />
            </li>
          ))}
        </ol>
        {more !== null && (
          <button type="button" className="quiet" onClick={more}>
            Older versions
          </button>
        )}
      </div>
      {entry !== undefined && (
        <Version key={entry.version} path={path} entry={entry} newest={newest ?? entry.version} />
      )}
    </div>
  )
}

function Entry({ entry, isChosen, onChoose }: { entry: VersionEntry; isChosen: boolean; onChoose(): void }) {
  const { version, first_version: first = version, author, last_modified, deleted } = entry
  const name = author ?? 'Unknown author'
  return (
    <button type="button" aria-pressed={isChosen} onClick={onChoose} title={timeText(last_modified)}>
      <Avatar person={{ name, color: author === null ? '#5b6572' : colorOf(author) }} />
      <span className="who" aria-hidden="true">
        {name}
      </span>
      <span className="soft">
        {deleted ? 'deleted it' : first === version ? `version ${version}` : `versions ${first}–${version}`},{' '}
        {agoText(last_modified)}
      </span>
    </button>
  )
}

type Shown = 'changes' | 'text' | 'since'

function Version({ path, entry, newest }: { path: string; entry: VersionEntry; newest: number }) {
  const { project } = useGateway()
  const { refresh } = useProjectFiles()
  const [shown, show] = useState<Shown>('changes')
  const { version, first_version: first = version } = entry
  const restore = useMutation({
    mutationFn: () => project.restore(path, version),
    onSuccess: refresh
  })
  const modes: [Shown, string][] = [
    ['changes', 'Changes'],
    ['text', 'Whole text'],
    ['since', 'Until now']
  ]
  return (
    <div className="version">
      <div className="bar">
        {/* biome-ignore lint/a11y/useSemanticElements: a fieldset would need a legend */}
        <div className="switch" role="group" aria-label="What is shown of the version">
          {modes.map(([mode, label]) => (
            <button key={mode} type="button" aria-pressed={shown === mode} onClick={() => show(mode)}>
              {label}
            </button>
          ))}
        </div>
        <span className="space" />
        <button
          type="button"
          disabled={restore.isPending || version === newest || entry.deleted}
          title={`Make the file what it was in version ${version}; nothing is lost`}
          onClick={() => restore.mutate()}
        >
          Restore
        </button>
      </div>
      <Failure error={restore.error} />
      {restore.isSuccess && <p className="notice">Restored as {plural(1, 'new version')}.</p>}
      {entry.deleted && shown === 'text' ? (
        <p className="soft">The file was deleted.</p>
      ) : (
        <Content
          path={path}
          shown={shown}
          from={shown === 'since' ? version : first - 1}
          to={shown === 'since' ? newest : version}
        />
      )}
    </div>
  )
}

function Content({ path, shown, from, to }: { path: string; shown: Shown; from: number; to: number }) {
  const { project } = useGateway()
  const { data, error } = useQuery({
    queryKey: [...gatewayKeys.project(project), 'past', path, shown, from, to],
    queryFn: ({ signal }) => (shown === 'text' ? textAt(to, signal) : changes(signal)),
    staleTime: Number.POSITIVE_INFINITY,
    retry: false
  })
  if (error !== null) return <Failure error={error} />
  if (data === undefined) return <div className="waiting small" />
  if (data.kind === 'diff') return <Diff text={data.text} />
  return (
    <>
      {data.kind === 'json' && <p className="soft">This is no plain text: its content as JSON.</p>}
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: so that the keyboard can scroll it */}
      <pre tabIndex={0}>{data.text}</pre>
    </>
  )

  async function changes(signal: AbortSignal): Promise<Past> {
    if (from === 0) {
      const past = await textAt(to, signal)
      return past.kind === 'text' ? { kind: 'diff', text: diffOfNew(past.text) } : past
    }
    try {
      return { kind: 'diff', text: await project.unifiedDiff(path, from, to, { signal }) }
    } catch (error) {
      if (isProblem(error, 'not_a_text', 'version_not_found')) return textAt(to, signal)
      throw error
    }
  }

  async function textAt(atVersion: number, signal: AbortSignal): Promise<Past> {
    try {
      return { kind: 'text', text: (await project.readText(path, { atVersion, signal })).value }
    } catch (error) {
      if (!isProblem(error, 'not_a_text')) throw error
      const { value } = await project.readJson(path, { atVersion, signal })
      return { kind: 'json', text: JSON.stringify(value, null, 2) }
    }
  }
}

interface Past {
  kind: 'diff' | 'text' | 'json'
  text: string
}

/** The entries of the history, newest first; refetched when there is a newer version. */
function useEntries(path: string, newest: number | undefined) {
  const { project } = useGateway()
  const { data, error, hasNextPage, fetchNextPage } = useInfiniteQuery({
    queryKey: [...gatewayKeys.project(project), 'history', path, newest],
    queryFn: ({ pageParam, signal }) =>
      project.history(path, {
        groupS: GROUP_S,
        limit: 50,
        signal,
        ...(pageParam === null ? {} : { before: pageParam })
      }),
    initialPageParam: null as number | null,
    getNextPageParam: ({ next }) => next,
    placeholderData: (before) => before,
    retry: false
  })
  return {
    entries: data?.pages.flatMap(({ versions }) => versions),
    more: hasNextPage ? () => void fetchNextPage() : null,
    error
  }
}

function curlLines(path: string): string {
  return `curl -s "$P/history/${urlPath(path)}?group=60"
curl -s "$P/history/${urlPath(path)}?diff=1..2"
curl -s "$P/files/${urlPath(path)}?at_version=1&format=text"`
}

function tsLines(path: string): string {
  const name = literal(path)
  return `const { versions } = await project.history(${name}, { groupS: 60 })
console.log(await project.unifiedDiff(${name}, 1, 2))
await project.restore(${name}, 1) // as a new version`
}
