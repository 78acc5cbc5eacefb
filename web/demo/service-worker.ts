/** The service worker of the demo: push messages, nothing else. */
import { handlePush } from '../src/service-worker/index.js'

handlePush()
