/** Push messages for a page. Its service worker imports `yjs-gateway/service-worker`. */
export { type EnabledPush, type EnablePushOptions, enablePush } from './enable-push.js'
export type { PushFilter } from './state.js'
