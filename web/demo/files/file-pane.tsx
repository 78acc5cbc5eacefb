import { useMemo, useState } from 'react'
import { Failure } from '../shell/failure.js'
import { plural } from '../shell/format.js'
import { How } from '../shell/how.js'
import { Icon } from '../shell/icon.js'
import { Bin } from './bin.js'
import { useChanged } from './changed.js'
import { FileTree } from './file-tree.js'
import { NewFile } from './new-file.js'
import { useProjectFiles } from './project-files.js'

interface FilePaneProps {
  open: string | null
  onOpen(path: string | null): void
  /** Called by the button that is shown while the project has no files. */
  onFill(): void
  isFilling: boolean
}

/** The project's files: search, create, and restore from the bin. */
export function FilePane({ open, onOpen, onFill, isFilling }: FilePaneProps) {
  const { files, error } = useProjectFiles()
  const [filter, setFilter] = useState('')
  const changed = useChanged(files, open)
  const shown = useMemo(() => {
    const wanted = filter.trim().toLowerCase()
    return files?.filter((file) => file.path.toLowerCase().includes(wanted)) ?? []
  }, [files, filter])
  return (
    <nav className="pane files" aria-labelledby="files-title">
      <div className="bar">
        <h2 id="files-title">Files</h2>
        <How what="list the files" curl={CURL} ts={TS} />
        <NewFile onOpen={onOpen} />
      </div>
      <label className="field">
        <Icon name="search" />
        <input
          type="search"
          placeholder="Filter by name"
          aria-label="Filter files by name"
          value={filter}
          onChange={(event) => setFilter(event.target.value)}
        />
      </label>
      <Failure error={error} />
      <div className="scroll tree">
        {files === undefined && <div className="waiting small" />}
        {files?.length === 0 && (
          <div className="empty">
            <p>This project is empty.</p>
            <button type="button" className="main" disabled={isFilling} onClick={onFill}>
              {isFilling ? 'Filling…' : 'Fill it with a sample'}
            </button>
          </div>
        )}
        {files !== undefined && files.length > 0 && shown.length === 0 && (
          <p className="soft">No file has this name.</p>
        )}
        <FileTree key={filter === '' ? 'all' : 'some'} files={shown} open={open} onOpen={onOpen} changed={changed} />
      </div>
      <footer className="bar">
        <span className="soft">{files === undefined ? '' : plural(files.length, 'file')}</span>
        <span className="space" />
        <Bin onOpen={onOpen} />
      </footer>
    </nav>
  )
}

const CURL = `curl -s $P/files
curl -s "$P/changes?wait=50"   # answers when something has changed`
const TS = `const files = await project.allFiles()
for await (const { changes } of project.follow({ kinds: ['file'] })) console.log(changes)`
