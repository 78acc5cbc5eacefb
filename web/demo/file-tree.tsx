import { type FormEvent, useEffect, useState } from 'react'
import type { FileEntry } from '../src/index.js'
import { useFiles } from '../src/react/index.js'
import { sizeText } from './format.js'

interface FileTreeProps {
  open: string | null
  onOpen(path: string): void
}

/** The project's files as a tree, each with its version, and a mark where it changed since it was last looked at. */
export function FileTree({ open, onOpen }: FileTreeProps) {
  const { data: files, error, put } = useFiles()
  const isChanged = useChangeMarks(files, open)
  const create = async (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault()
    const form = event.currentTarget
    const path = String(new FormData(form).get('path')).trim()
    if (!files?.some((file) => file.path === path)) await put(path, '')
    form.reset()
    onOpen(path)
  }
  return (
    <nav className="files" aria-labelledby="files-title">
      <h2 id="files-title">Files</h2>
      <form onSubmit={(event) => void create(event).catch(() => undefined)}>
        <input name="path" placeholder="notes/new.md" aria-label="Path of a new file" required />
        <button type="submit">Create</button>
      </form>
      {error !== null && <p role="alert">{error.message}</p>}
      {files?.length === 0 && <p>There is no file yet.</p>}
      <Folder files={files ?? []} depth={0} {...{ open, onOpen, isChanged }} />
    </nav>
  )
}

interface FolderProps extends FileTreeProps {
  files: FileEntry[]
  depth: number
  isChanged(file: FileEntry): boolean
}

function Folder({ files, depth, ...props }: FolderProps) {
  const groups = Map.groupBy(files, (file) => {
    const segments = file.path.split('/')
    return segments.length > depth + 1 ? segments[depth] : undefined
  })
  const folders = [...groups].filter((group): group is [string, FileEntry[]] => group[0] !== undefined)
  return (
    <ul>
      {folders.map(([name, inside]) => (
        <li key={`${name}/`}>
          <details open>
            <summary>{name}/</summary>
            <Folder files={inside} depth={depth + 1} {...props} />
          </details>
        </li>
      ))}
      {groups.get(undefined)?.map((file) => (
        <li key={file.path}>
          <FileRow file={file} name={file.path.split('/').at(-1) ?? ''} {...props} />
        </li>
      ))}
    </ul>
  )
}

function FileRow(props: FileTreeProps & { file: FileEntry; name: string; isChanged(file: FileEntry): boolean }) {
  const { file, name, open, onOpen, isChanged } = props
  return (
    <button type="button" aria-current={file.path === open} title={file.path} onClick={() => onOpen(file.path)}>
      <span className="name">{name}</span>
      {isChanged(file) && (
        <span className="mark" role="img" aria-label="changed">
          ●
        </span>
      )}
      <span className="version">v{file.version}</span>
      <span className="size">{sizeText(file.size)}</span>
    </button>
  )
}

/** Whether a file changed since it was open last, or since the page was. */
function useChangeMarks(files: FileEntry[] | undefined, open: string | null): (file: FileEntry) => boolean {
  const [seen, setSeen] = useState<Record<string, number> | null>(null)
  useEffect(() => {
    if (files === undefined) return
    setSeen((before) => {
      if (before === null) return Object.fromEntries(files.map((file) => [file.path, file.version]))
      const file = files.find((file) => file.path === open)
      return file === undefined ? before : { ...before, [file.path]: file.version }
    })
  }, [files, open])
  return (file) => seen !== null && file.path !== open && seen[file.path] !== file.version
}
