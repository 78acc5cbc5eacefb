import { useState } from 'react'
import { useDocumentPolling } from '../../src/react/index.js'
import { FileTree, projectId } from './surroundings.js'

// Unchanged from the specification, up to the end mark.
function DocumentExplorer() {
  const [documents, setDocuments] = useState<Document[]>([]);

  useDocumentPolling({
    projectId,
    enabled: true,
    onDocumentChange: (changes) => {
      // Refresh document list
      changes.forEach(change => {
        if (change.changeType === 'created') {
          // Add to list
        } else if (change.changeType === 'modified') {
          // Update in list
        } else if (change.changeType === 'deleted') {
          // Remove from list
        }
      });
    }
  });

  return <FileTree documents={documents} />;
}
// End mark.

export { DocumentExplorer }
