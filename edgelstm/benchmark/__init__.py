"""What `edgelstm bench` measures with: time in turns, start-up, memory, and peers to set beside."""
