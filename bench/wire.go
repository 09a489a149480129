//go:build linux

package main

// The bytes between the client of the benchmark and any server: enough of the Pusher protocol to
// open a connection, subscribe and publish.
//
// The data of a benchmark's event is
//
//	~PUBLISHER,SEQUENCE,NANOSECONDS~xxxx
//
// with the wall clock at the publish. '~' occurs nowhere else, so that the client
// finds it without taking the JSON apart.

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
)

const (
	appID     = "1"
	appKey    = "key"
	appSecret = "secret"

	eventName = "bench"
)

// upgradeRequest is the same for all connections, except for the extension.
func upgradeRequest(host string, compress bool) []byte {
	s := "GET /app/" + appKey + "?protocol=7&client=bench&version=1.0 HTTP/1.1\r\nHost: " + host +
		"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: " +
		"dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
	if compress { // what browsers offer
		s += "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
	}
	return []byte(s + "\r\n")
}

// acceptKey answers a Sec-WebSocket-Key (RFC 6455 §4.2.2).
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

const (
	opText  = 1
	opClose = 8
	opPing  = 9
	opPong  = 10
)

// appendFrame appends an unmasked frame, as servers send it.
func appendFrame(b []byte, opcode byte, payload []byte) []byte {
	b = appendHeader(b, opcode, 0, len(payload))
	return append(b, payload...)
}

// appendClientFrame appends a masked frame, as clients send it.
func appendClientFrame(b []byte, opcode byte, payload []byte) []byte {
	b = appendHeader(b, opcode, 0x80, len(payload))
	mask := [4]byte{0x12, 0x34, 0x56, 0x78}
	b = append(b, mask[:]...)
	for i, c := range payload {
		b = append(b, c^mask[i&3])
	}
	return b
}

func appendHeader(b []byte, opcode, masked byte, n int) []byte {
	b = append(b, 0x80|opcode)
	switch {
	case n < 126:
		return append(b, masked|byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, masked|126), uint16(n))
	default:
		return binary.BigEndian.AppendUint64(append(b, masked|127), uint64(n))
	}
}

// frame is a frame that has arrived. payload is a part of the parsed buffer.
type frame struct {
	opcode     byte
	compressed bool
	payload    []byte
}

var errFrame = errors.New("a frame that is fragmented or too long")

// parseFrame takes the frame at the start of b, unmasking it in place. n is 0 if b holds less than
// a frame.
func parseFrame(b []byte) (f frame, n int, err error) {
	if len(b) < 2 {
		return f, 0, nil
	}
	if b[0]&0x80 == 0 || b[0]&0x0f == 0 {
		return f, 0, errFrame
	}
	f.opcode, f.compressed = b[0]&0x0f, b[0]&0x40 != 0
	size, head := int(b[1]&0x7f), 2
	switch size {
	case 126:
		if head = 4; len(b) < head {
			return f, 0, nil
		}
		size = int(binary.BigEndian.Uint16(b[2:]))
	case 127:
		if head = 10; len(b) < head {
			return f, 0, nil
		}
		long := binary.BigEndian.Uint64(b[2:])
		if long > 16<<20 {
			return f, 0, errFrame
		}
		size = int(long)
	}
	masked := b[1]&0x80 != 0
	if masked {
		head += 4
	}
	if len(b) < head+size {
		return f, 0, nil
	}
	f.payload = b[head : head+size]
	if masked {
		for i := range f.payload {
			f.payload[i] ^= b[head-4+i&3]
		}
	}
	return f, head + size, nil
}

func established(socketID string) []byte {
	return []byte(`{"event":"pusher:connection_established","data":"{\"socket_id\":\"` + socketID +
		`\",\"activity_timeout\":30}"}`)
}

func subscriptionSucceeded(channel string) []byte {
	return []byte(`{"event":"pusher_internal:subscription_succeeded","data":"{}","channel":"` +
		channel + `"}`)
}

// socketIDIn finds the socket ID in a connection_established, however its quotes are
// escaped.
func socketIDIn(message []byte) string {
	_, after, ok := bytes.Cut(message, []byte("socket_id"))
	if !ok {
		return ""
	}
	i := bytes.IndexAny(after, "0123456789")
	if i < 0 {
		return ""
	}
	after = after[i:]
	n := 0
	for n < len(after) && (after[n] == '.' || '0' <= after[n] && after[n] <= '9') {
		n++
	}
	return string(after[:n])
}

// subscribe is the message that subscribes to a channel, signed where it must be.
// user is the user ID on a presence channel.
func subscribe(channel, socketID, user string) []byte {
	type data struct{ channel, auth, channelData string }
	d := data{channel: channel}
	switch kind, _, _ := bytes.Cut([]byte(channel), []byte("-")); string(kind) {
	case "private":
		d.auth = appKey + ":" + sign(socketID+":"+channel)
	case "presence":
		// 100 bytes of presence data
		d.channelData = fmt.Sprintf(`{"user_id":"%s","user_info":{"name":"%048s"}}`, user, user)
		d.auth = appKey + ":" + sign(socketID+":"+channel+":"+d.channelData)
	}
	s := `{"event":"pusher:subscribe","data":{"channel":"` + d.channel + `"`
	if d.auth != "" {
		s += `,"auth":"` + d.auth + `"`
	}
	if d.channelData != "" {
		s += `,"channel_data":` + strconv.Quote(d.channelData)
	}
	return []byte(s + "}}")
}

// signIn is the message that signs in as user number i, who watches others of the users.
func signIn(socketID string, i, others, users int) []byte {
	user := []byte(`{"id":"u` + strconv.Itoa(i) + `","watchlist":[`)
	for k := range others {
		if k > 0 {
			user = append(user, ',')
		}
		user = append(user, `"u`...)
		user = append(strconv.AppendInt(user, int64((i*31+k*97+1)%users), 10), '"')
	}
	user = append(user, "]}"...)
	return []byte(`{"event":"pusher:signin","data":{"auth":"` + appKey + ":" +
		sign(socketID+"::user::"+string(user)) + `","user_data":` + strconv.Quote(string(user)) +
		"}}")
}

func sign(text string) string {
	mac := hmac.New(sha256.New, []byte(appSecret))
	mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil))
}

// publishRequest appends a signed request that publishes one event.
func publishRequest(b []byte, host, channel, data string, unixTime int64, keepAlive bool) []byte {
	body := `{"name":"` + eventName + `","channel":"` + channel + `","data":"` + data + `"}`
	sum := md5.Sum([]byte(body))
	query := "auth_key=" + appKey + "&auth_timestamp=" + strconv.FormatInt(unixTime, 10) +
		"&auth_version=1.0&body_md5=" + hex.EncodeToString(sum[:])
	path := "/apps/" + appID + "/events"
	signature := sign("POST\n" + path + "\n" + query)
	b = append(b, "POST "+path+"?"+query+"&auth_signature="+signature+" HTTP/1.1\r\nHost: "+host+
		"\r\nContent-Type: application/json\r\n"...)
	if !keepAlive {
		b = append(b, "Connection: close\r\n"...)
	}
	b = append(b, "Content-Length: "+strconv.Itoa(len(body))+"\r\n\r\n"...)
	return append(b, body...)
}

// eventData is the data of a benchmark's event, of at least size bytes.
func eventData(publisher int, sequence uint32, now int64, size int) string {
	b := make([]byte, 0, size+64)
	b = append(b, '~')
	b = strconv.AppendInt(b, int64(publisher), 10)
	b = append(b, ',')
	b = strconv.AppendUint(b, uint64(sequence), 10)
	b = append(b, ',')
	b = strconv.AppendInt(b, now, 10)
	b = append(b, '~')
	for len(b) < size {
		b = append(b, 'x')
	}
	return string(b)
}

// parseEvent finds the data of a benchmark's event in a message. It allocates nothing.
func parseEvent(message []byte) (publisher int, sequence uint32, sent int64, ok bool) {
	i := bytes.IndexByte(message, '~')
	if i < 0 {
		return 0, 0, 0, false
	}
	var part [3]int64
	n := 0
	for _, c := range message[i+1:] {
		switch {
		case '0' <= c && c <= '9':
			part[n] = part[n]*10 + int64(c-'0')
		case c == ',' && n < 2:
			n++
		case c == '~' && n == 2:
			return int(part[0]), uint32(part[1]), part[2], true
		default:
			return 0, 0, 0, false
		}
	}
	return 0, 0, 0, false
}
