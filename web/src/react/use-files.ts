import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
import type { BaseVersion, WriteOptions } from '../project.js'
import { filesQuery } from '../queries/index.js'
import { gatewayKeys } from '../queries/keys.js'
import type { FileEntry } from '../wire.js'
import { useGateway } from './gateway-provider.js'
import { useDocumentPolling } from './use-document-polling.js'

/** The options of `useFiles`; all are optional. */
export interface FilesOptions {
  /** Only files whose paths begin with this prefix. */
  prefix?: string
  enabled?: boolean
  /** Milliseconds. */
  interval?: number
}

/** The options of a text write. */
export type PutOptions = Omit<WriteOptions, 'signal' | 'incarnation'> & BaseVersion & { root?: string }

/** The files of a project, kept up to date. Actions are shown immediately, and undone if the gateway refuses them. */
export interface Files {
  /** Ordered by path; undefined until the list is loaded. */
  data: FileEntry[] | undefined
  isPending: boolean
  error: Error | null
  refetch(): Promise<void>
  /**
   * Replace the text of a file, creating the file if necessary. With `baseVersion`, the version that the text is based
   * on, later edits of others are kept; without it, and without `ifMatch`, they are removed.
   */
  put(path: string, text: string, options?: PutOptions): Promise<void>
  /** Read the text of a file, change it and write it back; concurrent edits of others are kept. */
  edit(path: string, change: (text: string) => string | Promise<string>): Promise<void>
  move(from: string, to: string): Promise<void>
  remove(path: string): Promise<void>
}

/** An action on files: the request to the gateway, and its optimistic effect on a list. */
interface FileAction {
  run(): Promise<unknown>
  apply(files: FileEntry[]): FileEntry[]
}

/** List the files of the project, kept up to date. */
export function useFiles({ prefix = '', enabled = true, interval }: FilesOptions = {}): Files {
  const { project } = useGateway()
  const polling = useDocumentPolling({ enabled, ...(interval === undefined ? {} : { interval }) })
  const query = useQuery({
    ...filesQuery(project, prefix),
    enabled
  })
  const { mutateAsync: act, error } = useFileAction(prefix)
  return {
    data: query.data,
    isPending: query.isPending,
    error: query.error ?? polling.error ?? error,
    refetch: async () => void (await query.refetch()),
    put: (path, text, options) =>
      act({ run: () => project.putText(path, text, options), apply: (files) => withFile(files, path, text) }),
    edit: (path, change) => act({ run: () => project.edit(path, change), apply: (files) => files }),
    move: (from, to) => act({ run: () => project.move(from, to), apply: (files) => renamed(files, from, to) }),
    remove: (path) => act({ run: () => project.delete(path), apply: (files) => without(files, path) })
  }
}

function useFileAction(prefix: string) {
  const { project } = useGateway()
  const queryClient = useQueryClient()
  const queryKey = gatewayKeys.files(project, prefix)
  return useMutation<void, Error, FileAction, { before: FileEntry[] | undefined }>({
    mutationFn: async (action) => void (await action.run()),
    onMutate: async (action) => {
      await queryClient.cancelQueries({ queryKey })
      const before = queryClient.getQueryData<FileEntry[]>(queryKey)
      if (before !== undefined) queryClient.setQueryData(queryKey, action.apply(before))
      return { before }
    },
    onError: (_error, _action, context) => queryClient.setQueryData(queryKey, context?.before),
    onSettled: () => queryClient.invalidateQueries({ queryKey: gatewayKeys.allFiles(project) })
  })
}

function withFile(files: FileEntry[], path: string, text: string): FileEntry[] {
  const before = files.find((file) => file.path === path)
  const last_modified = new Date().toISOString()
  const file = { path, version: (before?.version ?? 0) + 1, last_modified, size: before?.size ?? text.length }
  return sorted([...without(files, path), file])
}

function renamed(files: FileEntry[], from: string, to: string): FileEntry[] {
  return sorted(files.map((file) => (file.path === from ? { ...file, path: to } : file)))
}

function without(files: FileEntry[], path: string): FileEntry[] {
  return files.filter((file) => file.path !== path)
}

function sorted(files: FileEntry[]): FileEntry[] {
  return files.sort((one, other) => (one.path < other.path ? -1 : 1))
}
