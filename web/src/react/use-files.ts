import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
import type { BaseVersion, WriteOptions } from '../project.js'
import { filesQuery } from '../queries/index.js'
import { gatewayKeys } from '../queries/keys.js'
import type { FileEntry } from '../wire.js'
import { useGateway } from './gateway-provider.js'
import { useDocumentPolling } from './use-document-polling.js'

export interface FilesOptions {
  /** Only those whose path begins so. */
  prefix?: string
  enabled?: boolean
  /** Milliseconds. */
  interval?: number
}

/** Under which conditions a text is written. */
export type PutOptions = Omit<WriteOptions, 'signal' | 'incarnation'> & BaseVersion & { root?: string }

/** The files of a project, kept up to date. What is done to them is shown at once, and undone where it is refused. */
export interface Files {
  /** By path; undefined until they are there. */
  data: FileEntry[] | undefined
  isPending: boolean
  error: Error | null
  refetch(): Promise<void>
  /**
   * Make the text of a file this; it comes into being if need be. With `baseVersion`, the version that the text was made
   * of, what others have written since stays; without it, and without `ifMatch`, that is removed.
   */
  put(path: string, text: string, options?: PutOptions): Promise<void>
  /** Read the text of a file, change it and write it back; what others write meanwhile stays. */
  edit(path: string, change: (text: string) => string | Promise<string>): Promise<void>
  move(from: string, to: string): Promise<void>
  remove(path: string): Promise<void>
}

/** Something that is done to files: on the gateway, and in a list of them. */
interface FileAction {
  run(): Promise<unknown>
  apply(files: FileEntry[]): FileEntry[]
}

/** The files of the project, kept up to date. */
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
