//! Supabase Realtime's protocol: Phoenix channels, serializers 1.0.0 and 2.0.0.
