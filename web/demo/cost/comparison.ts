/**
 * Compares the traffic of this page with that of a client that fetches everything again: the former is measured, the
 * latter is calculated.
 */
import { type QueryClient, useQueryClient } from '@tanstack/react-query'
import { useEffect, useRef, useState } from 'react'
import * as Y from 'yjs'
import type { ProviderTransport } from '../../src/provider/index.js'
import { gatewayKeys, useDocument, useGateway } from '../../src/react/index.js'
import type { ListedFile } from '../files/project-files.js'
import type { Traffic } from './traffic.js'

/**
 * The sampling period. In each period the other client fetches the list of files, the open file and the shown turns.
 */
const PERIOD_S = 1
/** The number of points in the plot: five minutes. */
const KEPT = 300
/** The size of an entry of the list, without the path. */
const ENTRY_BYTES = '{"path":"","version":10,"last_modified":"2026-11-23T17:20:31.309Z","size":2600},'.length

export interface Cost {
  requests: number
  bytes: number
}

export interface Point {
  /** The number of seconds in which the page was visible. */
  seconds: number
  here: Cost
  there: Cost
}

/** Add a point every second while the page is visible. Sends no request. */
export function useComparison(traffic: Traffic, files: ListedFile[] | undefined, file: number | null): Point[] {
  const { project } = useGateway()
  const queryClient = useQueryClient()
  const [points, setPoints] = useState<Point[]>([])
  const latest = useRef({ files, file })
  latest.current = { files, file }
  useEffect(() => {
    const tick = () => {
      if (document.hidden) return
      const { files = [], file } = latest.current
      const list = files.reduce((size, { path }) => size + ENTRY_BYTES + path.length, 0)
      const { requests, received, sent } = traffic.totals
      const here = { requests, bytes: received + sent }
      const turns = shownTurns(queryClient, gatewayKeys.project(project))
      const whole = [list, ...(file === null ? [] : [file]), ...turns]
      setPoints((before) => [...before, next(before.at(-1), here, whole)].slice(-KEPT))
    }
    const timer = setInterval(tick, PERIOD_S * 1_000)
    return () => clearInterval(timer)
  }, [traffic, project, queryClient])
  return points
}

/** @param whole the sizes in bytes of the responses that the other client fetches, one per request. */
function next(before: Point | undefined, here: Cost, whole: number[]): Point {
  const { seconds, there } = before ?? { seconds: 0, there: { requests: 0, bytes: 0 } }
  const bytes = whole.reduce((sum, size) => sum + size, there.bytes)
  return { seconds: seconds + PERIOD_S, here, there: { requests: there.requests + whole.length, bytes } }
}

/** The sizes in bytes of the turns that the page follows, as JSON. */
function shownTurns(queryClient: QueryClient, project: readonly string[]): number[] {
  const queries = queryClient.getQueryCache().findAll({ queryKey: [...project, 'turn'], type: 'active' })
  return queries.filter(({ state }) => state.data !== undefined).map(({ state }) => JSON.stringify(state.data).length)
}

/** The size in bytes of the whole open file as an update; null if no file is open. */
export function useFileSize(path: string | null, transport: ProviderTransport, files: ListedFile[] | undefined) {
  const { doc, synced } = useDocument(path ?? '', { transport }) // the empty string is not a path: opens no file
  const version = files?.find((file) => file.path === path)?.version
  const [size, setSize] = useState<number | null>(null)
  // biome-ignore lint/correctness/useExhaustiveDependencies: the version tells that the document has changed
  useEffect(() => {
    setSize(doc !== null && synced ? Y.encodeStateAsUpdate(doc).byteLength : null)
  }, [doc, synced, version])
  return size
}
