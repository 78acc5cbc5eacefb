import { useQuery } from '@tanstack/react-query'
import { type KeyboardEvent, useDeferredValue, useEffect, useMemo, useRef, useState } from 'react'
import { gatewayKeys, useGateway } from '../../src/react/index.js'
import { Failure } from '../shell/failure.js'
import { Icon } from '../shell/icon.js'
import { type ListedFile, useProjectFiles } from './project-files.js'
import { type Hit, TextSearch } from './search.js'

interface PaletteProps {
  onOpen(path: string): void
}

const NO_FILES: ListedFile[] = []
const MAX_NAMES = 12
const MIN_SEARCHED = 2

/** Ctrl+P: find a file by a part of its path, or by words in its text. */
export function Palette({ onOpen }: PaletteProps) {
  const dialog = useRef<HTMLDialogElement>(null)
  const [isShown, show] = useState(false)
  const open = () => {
    show(true)
    if (!dialog.current?.open) dialog.current?.showModal()
  }
  const opener = useRef(open)
  opener.current = open
  useEffect(() => {
    const pressed = (event: globalThis.KeyboardEvent) => {
      const isWanted = (event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey && /^[pk]$/i.test(event.key)
      if (!isWanted) return
      event.preventDefault()
      event.stopPropagation()
      opener.current()
    }
    addEventListener('keydown', pressed, { capture: true })
    return () => removeEventListener('keydown', pressed, { capture: true })
  }, [])
  return (
    <>
      <button type="button" className="search" onClick={open} aria-keyshortcuts="Control+P">
        <Icon name="search" />
        <span>Search</span>
        <kbd>Ctrl P</kbd>
      </button>
      <dialog ref={dialog} className="sheet palette" aria-label="Search" onClose={() => show(false)}>
        {isShown && (
          <Choices
            onChoose={(path) => {
              dialog.current?.close()
              onOpen(path)
            }}
          />
        )}
      </dialog>
    </>
  )
}

function Choices({ onChoose }: { onChoose(path: string): void }) {
  const { files = NO_FILES } = useProjectFiles()
  const [words, setWords] = useState('')
  const [chosen, choose] = useState(0)
  const names = useMemo(() => namesLike(files, words), [files, words])
  const { hits, isFetching, error } = useHits(files, useDeferredValue(words.trim()))
  const count = names.length + hits.length
  const pathAt = (index: number) => names[index]?.path ?? hits[index - names.length]?.path
  const pressed = (event: KeyboardEvent) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key]
    if (step !== undefined && count > 0) choose((chosen + step + count) % count)
    else if (event.key === 'Enter') {
      const path = pathAt(chosen)
      if (path !== undefined) onChoose(path)
    } else return
    event.preventDefault()
  }
  const option = (index: number, path: string) => ({
    id: `choice-${index}`,
    role: 'option',
    tabIndex: -1,
    'aria-selected': index === chosen,
    onPointerMove: () => choose(index),
    onClick: () => onChoose(path)
  })
  return (
    <>
      <label className="field">
        <Icon name="search" />
        <input
          // biome-ignore lint/a11y/noAutofocus: it is what the dialog is opened for
          autoFocus
          role="combobox"
          aria-expanded="true"
          aria-controls="choices"
          aria-activedescendant={count > 0 ? `choice-${chosen}` : undefined}
          aria-label="Name of a file, or words in it"
          placeholder="Name of a file, or words in it"
          value={words}
          onChange={(event) => {
            setWords(event.target.value)
            choose(0)
          }}
          onKeyDown={pressed}
        />
      </label>
      <Failure error={error} />
      <div id="choices" role="listbox" aria-label="Files">
        {names.map((file, index) => (
          <div key={file.path} {...option(index, file.path)}>
            <Icon name="document" />
            <span className="name">{file.path}</span>
          </div>
        ))}
        {hits.map((hit, index) => (
          <div key={`${hit.path}:${hit.line}`} {...option(names.length + index, hit.path)}>
            <span className="name">{hit.text}</span>
            <span className="soft">
              {hit.path}:{hit.line}
            </span>
          </div>
        ))}
      </div>
      <p className="soft" role="status">
        {count === 0 && (isFetching ? 'Searching…' : 'Nothing was found.')}
      </p>
    </>
  )
}

/** The lines of all files that contain the words. */
function useHits(files: ListedFile[], words: string): { hits: Hit[]; isFetching: boolean; error: Error | null } {
  const { project } = useGateway()
  const search = useMemo(() => new TextSearch(project), [project])
  const { data, isFetching, error } = useQuery({
    queryKey: [...gatewayKeys.project(project), 'search', words, files],
    queryFn: ({ signal }) => search.find(words, files, signal),
    enabled: words.length >= MIN_SEARCHED && files.length > 0,
    gcTime: 0,
    retry: false,
    placeholderData: (before) => before
  })
  return { hits: words.length >= MIN_SEARCHED ? (data ?? []) : [], isFetching, error }
}

/** The files whose paths contain the letters in this order: the closest matches first, then the shortest paths. */
function namesLike(files: ListedFile[], words: string): ListedFile[] {
  const letters = [...words.toLowerCase().replaceAll(/\s+/g, '')]
  const ranked = files.map((file) => ({ file, spread: spreadOf(file.path.toLowerCase(), letters) }))
  const fitting = ranked.filter(({ spread }) => spread < Number.POSITIVE_INFINITY)
  fitting.sort((one, other) => one.spread - other.spread || one.file.path.length - other.file.path.length)
  return fitting.slice(0, MAX_NAMES).map(({ file }) => file)
}

function spreadOf(path: string, letters: string[]): number {
  let end = path.length
  let last = -1
  for (const letter of letters.toReversed()) {
    end = end === 0 ? -1 : path.lastIndexOf(letter, end - 1)
    if (end < 0) return Number.POSITIVE_INFINITY
    if (last < 0) last = end
  }
  return letters.length === 0 ? 0 : last - end
}
