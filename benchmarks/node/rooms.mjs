// One of the servers that rooms are measured beside: node rooms.mjs hocuspocus | websocket-server | leveldb FOLDER
// Each as its documentation starts it. It says where it listens, as the gateway does.
import { createServer } from 'node:http'
import * as Y from 'yjs'

const [name, folder] = process.argv.slice(2)

async function hocuspocus () {
  const { Server } = await import('@hocuspocus/server')
  const server = new Server({ port: 0, address: '127.0.0.1', quiet: true })
  await server.listen()
  return server.httpServer
}

async function websocketServer () {
  const [{ WebSocketServer }, { setupWSConnection }] =
    await Promise.all([import('ws'), import('@y/websocket-server/utils')])
  const http = createServer()
  const sockets = new WebSocketServer({ noServer: true })
  sockets.on('connection', setupWSConnection)
  http.on('upgrade', (request, socket, head) => {
    sockets.handleUpgrade(request, socket, head, (connection) => sockets.emit('connection', connection, request))
  })
  await new Promise((resolve) => http.listen(0, '127.0.0.1', resolve))
  return http
}

async function leveldb () {
  const [{ setPersistence }, { LeveldbPersistence }] =
    await Promise.all([import('@y/websocket-server/utils'), import('y-leveldb')])
  const stored = new LeveldbPersistence(folder)
  setPersistence({
    provider: stored,
    bindState: async (room, document) => {
      const known = await stored.getYDoc(room)
      stored.storeUpdate(room, Y.encodeStateAsUpdate(document))
      Y.applyUpdate(document, Y.encodeStateAsUpdate(known))
      document.on('update', (update) => { stored.storeUpdate(room, update) })
    },
    writeState: async () => {}
  })
  return websocketServer()
}

const http = await { hocuspocus, 'websocket-server': websocketServer, leveldb }[name]()
console.log(`Listening on http://127.0.0.1:${http.address().port}`)
process.on('SIGTERM', () => process.exit(0))
