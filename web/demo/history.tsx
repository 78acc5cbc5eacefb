import { useMutation, useQuery } from '@tanstack/react-query'
import { useState } from 'react'
import { isProblem } from '../src/index.js'
import { gatewayKeys, useFiles, useGateway } from '../src/react/index.js'
import { sizeText, timeText } from './format.js'

/** Any version of a file, by a slider. */
export function History({ path }: { path: string }) {
  const { data: files } = useFiles()
  const newest = files?.find((file) => file.path === path)?.version ?? 1
  const [chosen, choose] = useState<number | null>(null)
  const version = Math.min(chosen ?? newest, newest)
  const { project } = useGateway()
  const restore = useMutation({ mutationFn: () => project.restore(path, version) })
  const { data: past, error } = useVersion(path, version)
  return (
    <div className="history">
      <div className="bar">
        <label>
          Version {version} of {newest}
          <input
            type="range"
            min={1}
            max={newest}
            value={version}
            onChange={(event) => choose(Number(event.target.value))}
          />
        </label>
        <button type="button" disabled={version === newest || past?.text === null} onClick={() => restore.mutate()}>
          Restore
        </button>
      </div>
      {error !== null && <p role="alert">{error.message}</p>}
      {past && (
        <p>
          {timeText(past.last_modified)} · {sizeText(past.size)} · {past.author ?? 'nobody named'}
        </p>
      )}
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: so that the keyboard can scroll it */}
      <pre tabIndex={0}>{past === undefined ? '…' : (past.text ?? 'deleted')}</pre>
    </div>
  )
}

/** A version and its text; a tombstone has none. */
function useVersion(path: string, version: number) {
  const { project } = useGateway()
  return useQuery({
    queryKey: [...gatewayKeys.project(project), 'version', path, version],
    queryFn: async ({ signal }) => {
      const { versions } = await project.history(path, { before: version + 1, limit: 1, signal })
      const [entry] = versions
      if (entry === undefined) throw new RangeError(`there is no version ${version}`)
      return { ...entry, text: await textAt(version, signal) }
    },
    staleTime: Number.POSITIVE_INFINITY,
    placeholderData: (before) => before
  })

  async function textAt(atVersion: number, signal: AbortSignal): Promise<string | null> {
    try {
      return (await project.readText(path, { atVersion, signal })).value
    } catch (error) {
      if (isProblem(error, 'file_deleted', 'version_not_found')) return null
      throw error
    }
  }
}
