import * as monaco from 'monaco-editor/esm/vs/editor/editor.api.js'
import 'monaco-editor/esm/vs/editor/editor.all.js'
import EditorWorker from 'monaco-editor/esm/vs/editor/editor.worker.js?worker'
import { MonacoBinding } from 'y-monaco'
import * as Y from 'yjs'
import { HttpProvider } from 'yjs-gateway/provider'
import { project, user } from '../shared/person.js'
import { nameCarets } from './carets.js'

self.MonacoEnvironment = { getWorker: () => new EditorWorker() }

const doc = new Y.Doc()
const provider = new HttpProvider({ url: location.origin, project, path: 'examples/monaco.md', doc })
provider.awareness.setLocalStateField('user', user)
nameCarets(provider.awareness)

const text = doc.getText('content') // the root that agents and `curl` read and write
const element = document.querySelector<HTMLElement>('#editor') ?? document.body
const model = monaco.editor.createModel('')
const editor = monaco.editor.create(element, { model, automaticLayout: true, minimap: { enabled: false } })
const binding = new MonacoBinding(text, model, new Set([editor]), provider.awareness)

// Monaco's own undo would also undo the edits of other clients.
const undo = new Y.UndoManager(text, { trackedOrigins: new Set([binding]) })
const { CtrlCmd, Shift } = monaco.KeyMod
editor.addCommand(CtrlCmd | monaco.KeyCode.KeyZ, () => undo.undo())
editor.addCommand(CtrlCmd | Shift | monaco.KeyCode.KeyZ, () => undo.redo())
editor.addCommand(CtrlCmd | monaco.KeyCode.KeyY, () => undo.redo())
