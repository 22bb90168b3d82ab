package edge

// A Position says how far someone has followed the hub's definitions. It is a
// count of changes, not a time: within an epoch a higher Revision is newer;
// another epoch means that nothing can be compared and all is to be sent again.
type Position struct {
	Epoch    string `json:"epoch"` // "" for nobody's
	Revision int64  `json:"revision"`
}
