/** The service worker of push-page.ts: handles push messages, and serves the application offline. */
import { handlePush } from '../../src/service-worker/index.js'

handlePush()

interface FetchEvent extends Event {
  request: Request
  respondWith(answer: Promise<Response>): void
  waitUntil(promise: Promise<unknown>): void
}

addEventListener('install', (event) => {
  const shell = caches.open('shell').then((cache) => cache.addAll(['/', '/page.js']))
  ;(event as FetchEvent).waitUntil(shell)
})
addEventListener('fetch', (event) => {
  const { request } = event as FetchEvent
  const { origin, pathname } = new URL(request.url)
  if (origin !== location.origin || request.method !== 'GET') return
  const answer = caches.match(pathname).then((cached) => cached ?? fetch(request))
  ;(event as FetchEvent).respondWith(answer)
})
