import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vite'

/** The URL of the gateway. The pages and the gateway share one origin, as behind a reverse proxy. */
const gateway = process.env.GATEWAY_URL ?? 'http://localhost:8000'
const inCheckout = (path: string) => fileURLToPath(new URL(path, import.meta.url))
const api = { '/api': { target: gateway, ws: true } }

export default defineConfig({
  server: { proxy: api },
  preview: { proxy: api },
  resolve: {
    // The package in this checkout. In your application: npm install yjs-gateway, without these two options.
    alias: [
      { find: /^yjs-gateway$/, replacement: inCheckout('../web/src/index.ts') },
      { find: /^yjs-gateway\/(provider)$/, replacement: inCheckout('../web/src/$1/index.ts') }
    ],
    dedupe: ['yjs', 'lib0', 'y-protocols', 'y-websocket']
  },
  build: {
    chunkSizeWarningLimit: 5_000,
    rolldownOptions: {
      input: [
        'index.html',
        'blocknote/index.html',
        'codemirror/index.html',
        'lexical/index.html',
        'monaco/index.html',
        'quill/index.html',
        'tiptap/index.html',
        'tiptap-hocuspocus/index.html',
        'tiptap-y-websocket/index.html'
      ]
    }
  }
})
