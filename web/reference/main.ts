// Swagger UI on the gateway's own /openapi.json: every request of the API, which can be tried out.
import SwaggerUI from 'swagger-ui-dist/swagger-ui-es-bundle.js'
import 'swagger-ui-dist/swagger-ui.css'

SwaggerUI({
  domNode: document.getElementById('root'),
  url: new URL('openapi.json', document.baseURI).href,
  validatorUrl: null, // nobody is asked but the gateway
  deepLinking: true,
  docExpansion: 'list',
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  filter: true,
  tryItOutEnabled: true
})
