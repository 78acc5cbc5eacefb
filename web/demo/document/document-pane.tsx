import { Suspense, useEffect, useState } from 'react'
import type { HttpProvider, ProviderTransport } from '../../src/provider/index.js'
import { useDocument } from '../../src/react/index.js'
import { History } from '../history/history.js'
import { Avatars } from '../people/avatars.js'
import { currentPerson, useName } from '../people/identity.js'
import { userOf } from '../people/person.js'
import { usePeople } from '../people/use-people.js'
import { nameOf } from '../shell/format.js'
import { How, literal, urlPath } from '../shell/how.js'
import { part } from '../shell/part.js'
import { Actions } from './actions.js'
import { isMarkdown, kindOf } from './kind.js'

const TextEditor = part(() => import('./text-editor.js'))
const RichEditor = part(() => import('./rich-editor.js'))
const Preview = part(() => import('./preview.js'))
const Roots = part(() => import('./roots.js'))

const CLOSED = {
  deleted: 'This file was deleted. It is in the bin.',
  'incarnation-changed': 'This file was deleted and created again.',
  reset: 'The gateway was reset to an earlier state.',
  refused: 'The gateway refused this file.'
}

type View = 'write' | 'preview' | 'history'

interface DocumentPaneProps {
  path: string
  transport: ProviderTransport
  onOpen(path: string | null): void
}

/** The open file: editor, preview and history. */
export function DocumentPane({ path, transport, onOpen }: DocumentPaneProps) {
  const { provider, synced, status, unsaved, closed, reopen } = useDocument(path, { transport })
  const [view, show] = useState<View>('write')
  const people = usePeople(provider)
  useOwnName(provider)
  const views: [View, string][] = [
    ['write', 'Write'],
    ...(isMarkdown(path) ? [['preview', 'Preview'] as [View, string]] : []),
    ['history', 'History']
  ]
  return (
    <section className="pane document" aria-label={path}>
      <div className="bar">
        <h2 className="document-title" title={path}>
          <Folders path={path} />
          {nameOf(path)}
        </h2>
        <Avatars people={people} />
        <output className={`status ${closed === null ? (status ?? '') : 'disconnected'}`}>
          {statusText(closed !== null, synced, status, unsaved)}
        </output>
      </div>
      <div className="bar tools">
        {/* biome-ignore lint/a11y/useSemanticElements: a fieldset would need a legend */}
        <div className="switch" role="group" aria-label="View">
          {views.map(([name, label]) => (
            <button key={name} type="button" aria-pressed={view === name} onClick={() => show(name)}>
              {label}
            </button>
          ))}
        </div>
        <span className="space" />
        <Actions path={path} onOpen={onOpen} />
        <How what="read and write this file" curl={curlLines(path)} ts={tsLines(path)} />
      </div>
      {closed !== null && (
        <div role="alert" className="notice bad">
          <p>{CLOSED[closed.reason]}</p>
          <button type="button" onClick={reopen}>
            Open again
          </button>
          <button type="button" onClick={() => onOpen(null)}>
            Close
          </button>
        </div>
      )}
      <div className="surface" hidden={view !== 'write'}>
        {closed === null && <Typing provider={provider} synced={synced} />}
      </div>
      <Suspense fallback={<Waiting />}>
        {view === 'preview' && provider !== null && <Preview doc={provider.doc} />}
        {view === 'history' && <History path={path} />}
      </Suspense>
    </section>
  )
}

function Folders({ path }: { path: string }) {
  const folders = path.slice(0, path.length - nameOf(path).length)
  return folders === '' ? null : <span className="folders">{folders}</span>
}

/** The editor for the kind of document, which is known once the document is loaded. */
function Typing({ provider, synced }: { provider: HttpProvider | null; synced: boolean }) {
  const [opened, setOpened] = useState<HttpProvider | null>(null)
  useEffect(() => {
    if (synced) setOpened(provider)
  }, [provider, synced])
  if (provider === null || opened !== provider) return <Waiting />
  const kind = kindOf(provider.doc)
  return (
    <Suspense fallback={<Waiting />}>
      {kind === 'text' && <TextEditor provider={provider} />}
      {kind === 'rich' && <RichEditor provider={provider} />}
      {kind === 'other' && <Roots doc={provider.doc} />}
    </Suspense>
  )
}

function Waiting() {
  return (
    <div className="waiting" role="status">
      <span className="hidden">Loading</span>
      <i />
      <i />
      <i />
    </div>
  )
}

/** Announce the visitor to the others before anything is typed. */
function useOwnName(provider: HttpProvider | null): void {
  const name = useName()
  // biome-ignore lint/correctness/useExhaustiveDependencies: the name is read from where it is kept
  useEffect(() => {
    provider?.awareness.setLocalStateField('user', userOf(currentPerson()))
  }, [provider, name])
}

function statusText(isClosed: boolean, synced: boolean, status: string | null, unsaved: boolean): string {
  if (isClosed) return 'closed'
  if (!synced) return status === 'disconnected' ? 'offline' : 'connecting'
  return unsaved ? 'saving' : 'saved'
}

function curlLines(path: string): string {
  const url = `$P/files/${urlPath(path)}`
  return `curl "${url}?format=text" -o copy.txt
curl -H 'X-Author: me' -T copy.txt "${url}?base_version=1" # merged with what others wrote since version 1`
}

function tsLines(path: string): string {
  const name = literal(path)
  return `const { value: text } = await project.readText(${name})
const provider = new HttpProvider(location.origin, project.name, ${name}, new Y.Doc())
const binding = yCollab(provider.doc.getText('content'), provider.awareness) // CodeMirror, with carets`
}
