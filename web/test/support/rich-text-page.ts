/** A page with a stock editor and its usual extensions on a provider: `?editor=tiptap|blocknote&project=&path=`. */
import { BlockNoteEditor } from '@blocknote/core'
import { Editor } from '@tiptap/core'
import Collaboration from '@tiptap/extension-collaboration'
import { TaskItem, TaskList } from '@tiptap/extension-list'
import { TableKit } from '@tiptap/extension-table'
import StarterKit from '@tiptap/starter-kit'
import * as Y from 'yjs'
import { HttpProvider } from '../../src/provider/index.js'

const query = new URLSearchParams(location.search)
const of = (name: string) => query.get(name) ?? ''
const user = { name: 'person', color: '#ff0000' }

const document_ = new Y.Doc()
const provider = new HttpProvider(location.origin, of('project'), of('path'), document_, { transport: 'websocket' })
const element = document.createElement('main')
document.body.append(element)

provider.once('sync', () => {
  if (of('editor') === 'tiptap') {
    const extensions = [
      StarterKit.configure({ undoRedo: false }),
      TableKit,
      TaskList,
      TaskItem.configure({ nested: true }),
      Collaboration.configure({ document: document_ })
    ]
    new Editor({ element, extensions })
  } else {
    const collaboration = { fragment: document_.getXmlFragment('document-store'), provider, user }
    BlockNoteEditor.create({ collaboration }).mount(element)
  }
})
