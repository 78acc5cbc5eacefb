import { useMemo, useRef } from 'react'
import type { ListedFile } from './project-files.js'

const NONE: ReadonlySet<string> = new Set()

/** The files that have changed since they were last open, or since the page was loaded. */
export function useChanged(files: ListedFile[] | undefined, open: string | null): ReadonlySet<string> {
  const seen = useRef<Map<string, number> | null>(null)
  return useMemo(() => {
    if (files === undefined) return NONE
    seen.current ??= new Map(files.map((file) => [file.path, file.version]))
    const versions = seen.current
    const shown = files.find((file) => file.path === open)
    if (shown !== undefined) versions.set(shown.path, shown.version)
    return new Set(files.filter((file) => versions.get(file.path) !== file.version).map((file) => file.path))
  }, [files, open])
}
