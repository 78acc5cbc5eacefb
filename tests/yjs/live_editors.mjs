// Editors: Y.Docs behind stock providers, of y-websocket and of Hocuspocus. Reads one JSON request a line from stdin,
// writes one JSON answer a line to stdout, in whatever order they come: {"id", "do", "editor", …} → {"id", "value"} or
// {"id", "error"}.
import * as Y from 'yjs'
import { HocuspocusProvider, HocuspocusProviderWebsocket } from '@hocuspocus/provider'
import { WebsocketProvider } from 'y-websocket'
import WebSocket from 'ws'
import { createInterface } from 'node:readline'

const editors = new Map()

class Editor {
  constructor (request) {
    const { editor, client, state, text } = request
    this.name = editor
    this.doc = new Y.Doc()
    if (client) this.doc.clientID = client
    this.text = this.doc.getText('content')
    if (text) this.text.insert(0, text)
    this.watchers = new Set()
    this.open(request, () => { for (const watcher of this.watchers) watcher() }, state)
  }

  open ({ server, room, params, protocols }, notify, state) {
    this.provider = new WebsocketProvider(server, room, this.doc, {
      WebSocketPolyfill: WebSocket, disableBc: true, maxBackoffTime: 100, connect: false,
      params: params ?? {}, protocols: protocols ?? []
    })
    this.closes = []
    this.ended = null // the code that the provider takes as final
    this.provider.on('connection-close', (event) => { if (event) this.closes.push(event.code) })
    this.provider.on('closed', ({ code }) => { this.ended = code })
    for (const name of ['connection-close', 'closed', 'synced', 'status']) this.provider.on(name, notify)
    this.provider.awareness.on('change', notify)
    this.doc.on('afterTransaction', notify)
    if (state !== undefined) this.provider.awareness.setLocalState(state)
    this.provider.connect()
  }

  // Resolves when `condition` holds.
  until (condition) {
    return new Promise((resolve) => {
      const look = () => {
        if (!condition()) return false
        this.watchers.delete(look)
        resolve()
        return true
      }
      if (!look()) this.watchers.add(look)
    })
  }

  // What the others say of themselves, by the order of their names.
  others () {
    const { awareness } = this.provider
    const states = [...awareness.getStates()].filter(([client]) => client !== this.doc.clientID)
    return states.map(([, state]) => state).sort((a, b) => String(a.name).localeCompare(b.name))
  }
}

const sockets = new Map()

class HocuspocusEditor extends Editor {
  open ({ server, room, socket, token, session }, notify, state) {
    if (!sockets.has(socket)) {
      sockets.set(socket, new HocuspocusProviderWebsocket({
        url: server, WebSocketPolyfill: WebSocket, delay: 100, minDelay: 50, maxDelay: 200
      }))
    }
    this.token = token
    this.told = [] // reasons, of permissions denied and of documents closed
    this.stateless = []
    this.renewals = -1
    this.provider = new HocuspocusProvider({
      websocketProvider: sockets.get(socket),
      name: room,
      document: this.doc,
      sessionAwareness: session ?? false,
      token: async () => { this.renewals += 1; return this.token },
      onAuthenticationFailed: ({ reason }) => this.told.push(['denied', reason]),
      onClose: ({ event }) => { if (event.code === 1000) this.told.push(['closed', event.reason]) },
      onStateless: ({ payload }) => this.stateless.push(payload)
    })
    for (const name of ['status', 'synced', 'authenticated', 'authenticationFailed', 'close']) this.provider.on(name, notify)
    for (const name of ['unsyncedChanges', 'stateless']) this.provider.on(name, notify)
    this.provider.awareness.on('change', notify)
    this.doc.on('afterTransaction', notify)
    if (state !== undefined) this.provider.awareness.setLocalState(state)
    this.provider.attach()
  }
}

const requests = {
  open: (editor, request) => {
    editors.set(request.editor, new (request.socket === undefined ? Editor : HocuspocusEditor)(request))
  },
  // Hocuspocus
  until_saved: (editor) => editor.until(() => editor.provider.synced && !editor.provider.hasUnsyncedChanges),
  // Types on whenever all is saved, until `stop_typing`; `saved` is the text at the last such moment.
  keep_typing: (editor, { text }) => {
    editor.saved = ''
    let at = 0
    editor.onSaved = () => {
      if (!editor.provider.synced || editor.provider.hasUnsyncedChanges) return
      editor.saved = editor.text.toString()
      setImmediate(() => { if (editor.onSaved) editor.text.insert(editor.text.length, text[at++ % text.length]) })
    }
    editor.provider.on('unsyncedChanges', editor.onSaved)
    editor.onSaved()
  },
  saved: (editor) => editor.saved,
  until_saved_length: (editor, { length }) => editor.until(() => editor.saved.length >= length),
  stop_typing: (editor) => { editor.provider.off('unsyncedChanges', editor.onSaved); editor.onSaved = undefined },
  unsaved: (editor) => editor.provider.unsyncedChanges,
  until_scope: (editor, { scope }) => editor.until(() => editor.provider.authorizedScope === scope),
  until_told: async (editor) => { await editor.until(() => editor.told.length > 0); return editor.told.shift() },
  until_renewed: (editor, { times }) => editor.until(() => editor.renewals >= times && editor.provider.isAuthenticated),
  send_token: (editor, { token }) => { editor.token = token; return editor.provider.sendToken() },
  next_token: (editor, { token }) => { editor.token = token },
  attach_again: (editor) => { editor.provider.detach(); editor.provider.attach() },
  send_stateless: (editor, { payload }) => editor.provider.sendStateless(payload),
  broadcast: (editor, { frame }) => editor.provider.configuration.websocketProvider.send(Buffer.from(frame, 'base64')),
  until_stateless: async (editor) => { await editor.until(() => editor.stateless.length); return editor.stateless.shift() },
  force_sync: (editor) => editor.provider.forceSync(),
  sockets: () => sockets.size,
  cut_socket: (editor) => editor.provider.configuration.websocketProvider.webSocket.terminate(),
  close_sockets: () => { for (const socket of sockets.values()) socket.destroy(); sockets.clear() },
  // Both
  synced: (editor) => editor.until(() => editor.provider.synced),
  unsynced: (editor) => editor.until(() => !editor.provider.wsconnected),
  read: (editor) => editor.text.toString(),
  // For the message of a test that waited for something else.
  state: (editor) => ({
    text: editor.text.toString().slice(-300),
    others: editor.others(),
    synced: editor.provider.synced,
    closes: editor.closes,
    ended: editor.ended,
    told: editor.told,
    unsynced: editor.provider.unsyncedChanges
  }),
  clean: (editor) => editor.doc.store.pendingStructs === null && editor.doc.store.pendingDs === null,
  insert: (editor, { at, text }) => editor.text.insert(at ?? editor.text.length, text),
  delete: (editor, { at, length }) => editor.text.delete(at, length),
  // One transaction, and so one message, a character.
  type: (editor, { text }) => { for (const character of text) editor.text.insert(editor.text.length, character) },
  // Types between the halves of the first surrogate pair, or deletes one half of the last.
  part: (editor, { text }) => {
    const at = editor.text.toString().search(/[\ud800-\udbff][\udc00-\udfff]/)
    if (at >= 0) editor.text.insert(at + 1, text)
  },
  halve: (editor, { half }) => {
    const at = editor.text.toString().search(/[\ud800-\udbff][\udc00-\udfff][^\ud800-\udbff]*$/)
    if (at >= 0) editor.text.delete(at + half, 1)
  },
  until_text: (editor, { text }) => editor.until(() => editor.text.toString() === text),
  until_holds: (editor, { text }) => editor.until(() => editor.text.toString().includes(text)),
  until_ended: async (editor) => { await editor.until(() => editor.ended !== null); return editor.ended },
  until_closed: async (editor) => { await editor.until(() => editor.closes.length > 0); return editor.closes.shift() },
  // Goes on with another token, as an application does after 4401.
  renew: (editor, { params }) => {
    editor.provider.params = params
    editor.ended = null
    editor.provider.connect()
  },
  until_others: (editor, { others }) => editor.until(() => JSON.stringify(editor.others()) === JSON.stringify(others)),
  say: (editor, { state }) => editor.provider.awareness.setLocalState(state),
  // Who of the others has a cursor, and the text that it selects.
  cursors: (editor) => editor.others().filter(({ cursor }) => cursor).map(({ user, cursor }) => {
    const [from, to] = [cursor.anchor, cursor.head].map((position) => Y.createAbsolutePositionFromRelativePosition(
      Y.createRelativePositionFromJSON(position), editor.doc).index)
    return [user.name, editor.text.toString().slice(from, to)]
  }),
  // Loses the next messages that would go out.
  lose: (editor, { count }) => {
    const socket = editor.provider.ws
    const send = socket.send
    socket.send = (message) => { if (--count < 0) send.call(socket, message) }
  },
  connected: (editor) => editor.provider.shouldConnect,
  disconnect: (editor) => editor.provider.disconnect(),
  connect: (editor) => editor.provider.connect(),
  // The socket is gone, without a word.
  cut: (editor) => editor.provider.ws.terminate(),
  // Edits and closes in one turn of the loop.
  leave: (editor, { text }) => {
    if (text) requests.type(editor, { text })
    editor.provider.destroy()
    editor.doc.destroy()
    editors.delete(editor.name)
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line)
  const answer = (result) => process.stdout.write(JSON.stringify({ id: request.id, ...result }) + '\n')
  try {
    Promise.resolve(requests[request.do](editors.get(request.editor), request)).then((value) => answer({ value }))
  } catch (error) {
    answer({ error: String(error) })
  }
}
process.exit(0)
