package recognition

import "time"

// LookNow lets the next call look at the files, whenever they were looked at before.
func LookNow(client *Client) {
	client.connections.mu.Lock()
	defer client.connections.mu.Unlock()
	client.connections.looked = time.Time{}
}

// UnderWay is how many calls have not given back their connection.
func UnderWay(client *Client) int {
	client.connections.mu.Lock()
	defer client.connections.mu.Unlock()
	under := client.connections.present.calls
	for each := range client.connections.former {
		under += each.calls
	}
	return under
}
