package ledger

// KeepAudit sets how many entries of the audit log l keeps.
func KeepAudit(l *Ledger, n int64) { l.keepAudit = n }
