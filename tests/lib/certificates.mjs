// Certificates for a case: an authority of its own, and what it signs.
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { scratch } from './hub.mjs'

const openssl = (folder, ...args) => execFileSync('openssl', args, { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] })
const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']

export class Authority {
  constructor(t) {
    this.folder = scratch(t)
    this.file = join(this.folder, 'ca.pem')
    openssl(this.folder, 'req', '-x509', ...KEY, '-keyout', 'ca.key', '-out', 'ca.pem', '-days', '2', '-subj', '/CN=test authority')
  }

  get ca() { return readFileSync(this.file) }

  /** {cert, key}: files. `names` as subjectAltName; `signed: false` makes it vouch for itself; `days: -1`: its time is over. */
  issue(name, { names = 'DNS:localhost,IP:127.0.0.1', signed = true, days = 2 } = {}) {
    const [cert, key] = [join(this.folder, `${name}.pem`), join(this.folder, `${name}.key`)]
    if (!signed) {
      openssl(this.folder, 'req', '-x509', ...KEY, '-keyout', key, '-out', cert, '-days', '2', '-subj', `/CN=${name}`,
        '-addext', `subjectAltName=${names}`)
      return { cert, key }
    }
    openssl(this.folder, 'req', ...KEY, '-keyout', key, '-out', `${name}.csr`, '-subj', `/CN=${name}`)
    writeFileSync(join(this.folder, `${name}.ext`), `subjectAltName=${names}`)
    openssl(this.folder, 'x509', '-req', '-in', `${name}.csr`, '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial',
      '-days', String(days), '-extfile', `${name}.ext`, '-out', cert)
    return { cert, key }
  }
}
