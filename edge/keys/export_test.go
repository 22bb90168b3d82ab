package keys

// CreateWithoutLinks is Create on a file system whose answer to a hard link is err.
func CreateWithoutLinks(path string, data []byte, err error) error {
	return create(path, data, func(string, string) error { return err })
}
