package recognition

import "time"

// LookNow lets the next call look at the files, whenever they were looked at before.
func LookNow(client *Client) {
	client.connections.mu.Lock()
	defer client.connections.mu.Unlock()
	client.connections.looked = time.Time{}
}
