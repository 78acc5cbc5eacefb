import { EditorState } from '@codemirror/state'
import { keymap } from '@codemirror/view'
import { basicSetup, EditorView } from 'codemirror'
import { yCollab, yUndoManagerKeymap } from 'y-codemirror.next'
import * as Y from 'yjs'
import { HttpProvider } from 'yjs-gateway/provider'
import { project, user } from '../shared/person.js'

const doc = new Y.Doc()
const provider = new HttpProvider({ url: location.origin, project, path: 'examples/codemirror.md', doc })
provider.awareness.setLocalStateField('user', user)

const text = doc.getText('content') // the root that agents and `curl` read and write
const parent = document.querySelector<HTMLElement>('#editor') ?? document.body

provider.once('synced', () => {
  const extensions = [keymap.of(yUndoManagerKeymap), basicSetup, yCollab(text, provider.awareness)]
  new EditorView({ parent, state: EditorState.create({ doc: text.toString(), extensions }) })
})
