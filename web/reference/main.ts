// Swagger UI for /openapi.json: a reference of all requests, which can be tried out.
import SwaggerUI from 'swagger-ui-dist/swagger-ui-es-bundle.js'
import 'swagger-ui-dist/swagger-ui.css'

SwaggerUI({
  domNode: document.getElementById('root'),
  url: new URL('openapi.json', document.baseURI).href,
  validatorUrl: null, // contact no server except the gateway
  deepLinking: true,
  docExpansion: 'list',
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  filter: true,
  tryItOutEnabled: true
})
