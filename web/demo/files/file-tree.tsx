import { memo, useState } from 'react'
import { Icon } from '../shell/icon.js'
import type { ListedFile } from './project-files.js'

/** With more files than this, folders start collapsed: invisible rows cost time. */
const OPEN_AT_MOST = 60

export interface TreeProps {
  open: string | null
  onOpen(path: string): void
  /** The paths of the files that have changed since they were last open. */
  changed: ReadonlySet<string>
}

/** The files by folder. A folder renders its rows when it is expanded. */
export function FileTree({ files, ...props }: TreeProps & { files: ListedFile[] }) {
  return <Folder files={files} depth={0} isOpen={files.length <= OPEN_AT_MOST} {...props} />
}

interface FolderProps extends TreeProps {
  files: ListedFile[]
  depth: number
  /** Whether nested folders start expanded. */
  isOpen: boolean
}

function Folder({ files, depth, isOpen, ...props }: FolderProps) {
  const groups = Map.groupBy(files, (file) => {
    const segments = file.path.split('/')
    return segments.length > depth + 1 ? segments[depth] : undefined
  })
  const folders = [...groups].filter((group): group is [string, ListedFile[]] => group[0] !== undefined)
  return (
    <ul>
      {folders.map(([name, inside]) => (
        <Branch key={`${name}/`} name={name} files={inside} depth={depth + 1} isOpen={isOpen} {...props} />
      ))}
      {groups.get(undefined)?.map((file) => (
        <FileRow
          key={file.path}
          path={file.path}
          version={file.version}
          isOpen={file.path === props.open}
          isChanged={props.changed.has(file.path)}
          onOpen={props.onOpen}
        />
      ))}
    </ul>
  )
}

function Branch({ name, ...props }: FolderProps & { name: string }) {
  const holdsOpen = props.files.some((file) => file.path === props.open)
  const [isUnfolded, unfold] = useState(props.isOpen || holdsOpen)
  const isChanged = !isUnfolded && props.files.some((file) => props.changed.has(file.path))
  return (
    <li>
      <details open={isUnfolded} onToggle={(event) => unfold(event.currentTarget.open)}>
        <summary>
          <Icon name="folder" />
          <span className="name">{name}</span>
          {isChanged && <Mark />}
          <span className="count">{props.files.length}</span>
        </summary>
        {isUnfolded && <Folder {...props} />}
      </details>
    </li>
  )
}

interface RowProps {
  path: string
  version: number
  isOpen: boolean
  isChanged: boolean
  onOpen(path: string): void
}

const FileRow = memo(function FileRow({ path, version, isOpen, isChanged, onOpen }: RowProps) {
  return (
    <li>
      <button type="button" aria-current={isOpen ? 'page' : undefined} title={path} onClick={() => onOpen(path)}>
        <Icon name="document" />
        <span className="name">{path.slice(path.lastIndexOf('/') + 1)}</span>
        {isChanged && <Mark />}
        <span className="count">v{version}</span>
      </button>
    </li>
  )
})

function Mark() {
  return <span className="mark" role="img" aria-label="changed" />
}
